# Results rewrite the graph: a solved board cancels its sibling, an unsolved one is looked at more deeply, and the report's
# parents are not known when the plan is made.
> 1 attach ada slots=2
    record worker ada joined, instance one, 2 slots
> 1 attach bob slots=2
    record worker bob joined, instance one, 2 slots
> 2 submit c1
    answer: c1 at revision 1
    record c1 accepted
    record c1 revision 1 by client:me: +plan
    record plan attempt 1 on ada, token 1
    effect to ada: run plan attempt 1, token 1
> 3 propose 1 ada +report:all +a* +b* a~>report b~>report
    record c1 revision 2 by star:plan: +report +a +b a~>report b~>report
    record a attempt 1 on bob, token 2
    record b attempt 1 on ada, token 3
    effect to ada: edits accepted, revision 2
    effect to bob: run a attempt 1, token 2
    effect to ada: run b attempt 1, token 3
> 4 propose 1 ada +c* c~>report
    record c1 revision 3 by star:plan: +c c~>report
    record c attempt 1 on bob, token 4
    effect to ada: edits accepted, revision 3
    effect to bob: run c attempt 1, token 4
> 5 succeed 1 ada null
    record plan SUCCEEDED
    effect to ada: acknowledged token 1
> 6 succeed 2 bob "solved" !b
    record c1 revision 4 by star:a: !b
    record b CANCELLED cancelled: cancelled by star:a, slot still held
    record a SUCCEEDED "solved"
    effect to bob: acknowledged token 2
    effect to ada: stop token 3 (cancelled by star:a)
> 7 stopped 3 ada
    record b attempt 1 gives its slot back
    effect to ada: acknowledged token 3
> 8 succeed 4 bob "unsolved" +deeper deeper~>report
    record c1 revision 5 by star:c: +deeper deeper~>report
    record c SUCCEEDED "unsolved"
    record deeper attempt 1 on ada, token 5
    effect to bob: acknowledged token 4
    effect to ada: run deeper attempt 1, token 5
> 9 succeed 5 ada "solved"
    record deeper SUCCEEDED "solved"
    record report attempt 1 on ada, token 6
    effect to ada: acknowledged token 5
    effect to ada: run report attempt 1, token 6 {"x": {"a": {"state": "SUCCEEDED", "result": "solved", "error": null}, "b": {"state": "CANCELLED", "result": null, "error": {"code": "cancelled", "message": "cancelled by star:a"}}, "c": {"state": "SUCCEEDED", "result": "unsolved", "error": null}, "deeper": {"state": "SUCCEEDED", "result": "solved", "error": null}}}
> 10 succeed 6 ada "the_report"
    record report SUCCEEDED "the_report"
    record c1 SUCCEEDED
    effect to ada: acknowledged token 6
> 11 look c1
    SUCCEEDED revision 5
    plan SUCCEEDED [1:ada:SUCCEEDED]
    report SUCCEEDED "the_report" [1:ada:SUCCEEDED]
    a SUCCEEDED "solved" [1:bob:SUCCEEDED]
    b CANCELLED cancelled: cancelled by star:a [1:ada:CANCELLED]
    c SUCCEEDED "unsolved" [1:bob:SUCCEEDED]
    deeper SUCCEEDED "solved" [1:ada:SUCCEEDED]
# A planner that adds stars after all were finished gets them run.
> 12 edit c1 +more report->more
    answer: c1 at revision 6
    record c1 revision 6 by client:me: +more report->more
    record more attempt 1 on ada, token 7
    effect to ada: run more attempt 1, token 7
> 13 succeed 7 bob "more"
    effect to bob: acknowledged token 7

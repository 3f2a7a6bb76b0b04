# A parent fails for good: the success-only child is skipped at once and says why, the completion child runs, the
# conditional child goes by the condition. The request's sinks decide: the skipped one makes it FAILED.
> 1 attach ada slots=4
    record worker ada joined, instance one, 4 slots
> 2 submit c1
    answer: c1 at revision 1
    record c1 accepted
    record c1 revision 1 by client:me: +plan
    record plan attempt 1 on ada, token 1
    effect to ada: run plan attempt 1, token 1
> 3 propose 1 ada +a +on_success +on_completion:all +on_condition a->on_success a~>on_completion a?>on_condition
    record c1 revision 2 by star:plan: +a +on_success +on_completion +on_condition a->on_success a~>on_completion a?>on_condition
    record a attempt 1 on ada, token 2
    effect to ada: edits accepted, revision 2
    effect to ada: run a attempt 1, token 2
> 4 succeed 1 ada null
    record plan SUCCEEDED
    effect to ada: acknowledged token 1
> 5 fail 2 ada
    record a FAILED boom: it broke
    record on_success CANCELLED skipped: its parent a failed (boom)
    record on_condition CANCELLED unchosen: the condition on its parent a is false
    record on_completion attempt 1 on ada, token 3
    effect to ada: acknowledged token 2
    effect to ada: run on_completion attempt 1, token 3 {"x": {"a": {"state": "FAILED", "result": null, "error": {"code": "boom", "message": "it broke"}}}}
> 6 look c1
    RUNNING revision 2
    plan SUCCEEDED [1:ada:SUCCEEDED]
    a FAILED boom: it broke [1:ada:FAILED]
    on_success CANCELLED skipped: its parent a failed (boom)
    on_completion RUNNING [1:ada:None]
    on_condition CANCELLED unchosen: the condition on its parent a is false
> 7 succeed 3 ada "handled"
    record on_completion SUCCEEDED "handled"
    record c1 FAILED star a: it broke (boom)
    effect to ada: acknowledged token 3
> 8 look c1
    FAILED revision 2 star a: it broke (boom)
    plan SUCCEEDED [1:ada:SUCCEEDED]
    a FAILED boom: it broke [1:ada:FAILED]
    on_success CANCELLED skipped: its parent a failed (boom)
    on_completion SUCCEEDED "handled" [1:ada:SUCCEEDED]
    on_condition CANCELLED unchosen: the condition on its parent a is false
# A retry runs the failed star and all that hung on it as new stars; the old ones stay as they ended.
> 9 retry c1
    answer: c1 at revision 3
    record c1 revision 3 by client:me: +a~2 +on_success~2 +on_completion~2 +on_condition~2 a~2->on_success~2 a~2~>on_completion~2 a~2?>on_condition~2
    record a~2 attempt 1 on ada, token 4
    effect to ada: run a~2 attempt 1, token 4
> 10 succeed 4 ada 1
    record a~2 SUCCEEDED 1
    record on_success~2 attempt 1 on ada, token 5
    record on_completion~2 attempt 1 on ada, token 6
    record on_condition~2 attempt 1 on ada, token 7
    effect to ada: acknowledged token 4
    effect to ada: run on_success~2 attempt 1, token 5
    effect to ada: run on_completion~2 attempt 1, token 6 {"x": {"a~2": {"state": "SUCCEEDED", "result": 1, "error": null}}}
    effect to ada: run on_condition~2 attempt 1, token 7
> 11 succeed 5 ada "one"
    record on_success~2 SUCCEEDED "one"
    effect to ada: acknowledged token 5
> 12 succeed 6 ada "two"
    record on_completion~2 SUCCEEDED "two"
    effect to ada: acknowledged token 6
> 12 succeed 7 ada "three"
    record on_condition~2 SUCCEEDED "three"
    record c1 SUCCEEDED
    effect to ada: acknowledged token 7
> 13 look c1
    SUCCEEDED revision 3
    plan SUCCEEDED [1:ada:SUCCEEDED]
    a FAILED boom: it broke [1:ada:FAILED]
    on_success CANCELLED skipped: its parent a failed (boom)
    on_completion SUCCEEDED "handled" [1:ada:SUCCEEDED]
    on_condition CANCELLED unchosen: the condition on its parent a is false
    a~2 SUCCEEDED 1 [1:ada:SUCCEEDED]
    on_success~2 SUCCEEDED "one" [1:ada:SUCCEEDED]
    on_completion~2 SUCCEEDED "two" [1:ada:SUCCEEDED]
    on_condition~2 SUCCEEDED "three" [1:ada:SUCCEEDED]

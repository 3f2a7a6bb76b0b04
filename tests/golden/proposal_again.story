# An orchestrator may be asked again for edits whose answer got lost: it applies them once, and says the same.
> 1 attach ada slots=1
    record worker ada joined, instance one, 1 slots
> 2 submit c1
    answer: c1 at revision 1
    record c1 accepted
    record c1 revision 1 by client:me: +plan
    record plan attempt 1 on ada, token 1
    effect to ada: run plan attempt 1, token 1
> 3 propose 1 ada +a
    record c1 revision 2 by star:plan: +a
    effect to ada: edits accepted, revision 2
> 4 detach ada
> 5 attach ada slots=1 held=1
> 5 repeat 1 ada +a
    effect to ada: edits accepted, revision 2
> 6 propose 1 ada +b base=9
    record c1 refused edits by star:plan: base_revision: 9 has not been reached: the graph is at 2
    effect to ada: edits refused (base_revision: 9 has not been reached: the graph is at 2), revision 2
> 7 repeat 1 ada +b base=9
    effect to ada: edits refused (base_revision: 9 has not been reached: the graph is at 2), revision 2
> 8 succeed 1 ada
    record plan SUCCEEDED
    record a attempt 1 on ada, token 2
    effect to ada: acknowledged token 1
    effect to ada: run a attempt 1, token 2

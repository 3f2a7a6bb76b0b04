# The budget is the request's own, and ends it with a reason.
> 1 attach ada slots=8
    record worker ada joined, instance one, 8 slots
> 2 submit c1 stars=3 attempts=2
    answer: c1 at revision 1
    record c1 accepted
    record c1 revision 1 by client:me: +plan
    record plan attempt 1 on ada, token 1
    effect to ada: run plan attempt 1, token 1
> 3 propose 1 ada +a +b
    record c1 revision 2 by star:plan: +a +b
    record a attempt 1 on ada, token 2
    record plan CANCELLED cancelled: the budget of 2 attempts is used up, slot still held
    record a CANCELLED cancelled: the budget of 2 attempts is used up, slot still held
    record b CANCELLED cancelled: the budget of 2 attempts is used up
    record c1 FAILED the budget of 2 attempts is used up
    effect to ada: edits accepted, revision 2
    effect to ada: run a attempt 1, token 2
    effect to ada: stop token 1 (the budget of 2 attempts is used up)
    effect to ada: stop token 2 (the budget of 2 attempts is used up)
> 4 submit c2 stars=2
    answer: c2 at revision 1
    record c2 accepted
    record c2 revision 1 by client:me: +plan
    record plan attempt 1 on ada, token 3
    effect to ada: run plan attempt 1, token 3
> 5 propose 3 ada +a +b
    record c2 refused edits by star:plan: star b: the request's budget of 2 stars is used up
    effect to ada: edits refused (star b: the request's budget of 2 stars is used up), revision 1
> 6 stopped 2 ada
    record a attempt 1 gives its slot back
    effect to ada: acknowledged token 2
> 7 submit c3
    answer: c3 at revision 1
    record c3 accepted
    record c3 revision 1 by client:me: +plan
    record plan attempt 1 on ada, token 4
    effect to ada: run plan attempt 1, token 4
> 50 renew ada
> 70 time
    record plan attempt 1 gives its slot back
    record plan attempt 1 LOST: worker_lost, again at once
    record plan attempt 1 LOST: worker_lost, again at once
    record worker ada left: its lease ran out
    record plan CANCELLED cancelled: the budget of 60 seconds is used up
    record c2 FAILED the budget of 60 seconds is used up
    record plan CANCELLED cancelled: the budget of 60 seconds is used up
    record c3 FAILED the budget of 60 seconds is used up
    effect to ada: goodbye (its lease ran out)

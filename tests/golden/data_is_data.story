# A text result that looks like a reference or a template is passed on as it is, and a path that leads nowhere fails the star.
> 1 attach ada slots=4
    record worker ada joined, instance one, 4 slots
> 2 submit c1
    answer: c1 at revision 1
    record c1 accepted
    record c1 revision 1 by client:me: +plan
    record plan attempt 1 on ada, token 1
    effect to ada: run plan attempt 1, token 1
> 3 propose 1 ada +a +b:a.text +c:a.nothing a->b a->c
    record c1 revision 2 by star:plan: +a +b +c a->b a->c
    record a attempt 1 on ada, token 2
    effect to ada: edits accepted, revision 2
    effect to ada: run a attempt 1, token 2
> 4 succeed 1 ada null
    record plan SUCCEEDED
    effect to ada: acknowledged token 1
> 5 succeed 2 ada {"text":"$1{{x}}${a.out}"}
    record a SUCCEEDED {"text": "$1{{x}}${a.out}"}
    record b attempt 1 on ada, token 3
    record c FAILED input_missing: input x: a['nothing'] has no value
    effect to ada: acknowledged token 2
    effect to ada: run b attempt 1, token 3 {"x": "$1{{x}}${a.out}"}
> 6 succeed 3 ada "ok"
    record b SUCCEEDED "ok"
    record c1 FAILED star c: input x: a['nothing'] has no value (input_missing)
    effect to ada: acknowledged token 3
> 7 look c1
    FAILED revision 2 star c: input x: a['nothing'] has no value (input_missing)
    plan SUCCEEDED [1:ada:SUCCEEDED]
    a SUCCEEDED {"text": "$1{{x}}${a.out}"} [1:ada:SUCCEEDED]
    b SUCCEEDED "ok" [1:ada:SUCCEEDED]
    c FAILED input_missing: input x: a['nothing'] has no value

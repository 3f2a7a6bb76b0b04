# What nobody knows is refused whole, with what is known; what nobody attached offers is waited for by name.
> 1 attach ada slots=4 models=m
    record worker ada joined, instance one, 4 slots
> 2 submit c1
    answer: c1 at revision 1
    record c1 accepted
    record c1 revision 1 by client:me: +plan
    record plan attempt 1 on ada, token 1
    effect to ada: run plan attempt 1, token 1
> 3 propose 1 ada +a +b:model/unheard_of
    record c1 refused edits by star:plan: star b: no worker knows model:unheard_of; known are model:m
    effect to ada: edits refused (star b: no worker knows model:unheard_of; known are model:m), revision 1
> 3 propose 1 ada +a +b:model/m
    record c1 revision 2 by star:plan: +a +b
    record a attempt 1 on ada, token 2
    record b attempt 1 on ada, token 3
    effect to ada: edits accepted, revision 2
    effect to ada: run a attempt 1, token 2
    effect to ada: run b attempt 1, token 3
> 4 detach ada goodbye
    record plan attempt 1 LOST: worker_lost, again at once
    record a attempt 1 LOST: worker_lost, again at once
    record b attempt 1 LOST: worker_lost, again at once
    record worker ada left: it said goodbye
> 5 attach bob slots=4
    record worker bob joined, instance one, 4 slots
    record plan attempt 2 on bob, token 4
    record a attempt 2 on bob, token 5
    effect to bob: run plan attempt 2, token 4
    effect to bob: run a attempt 2, token 5
> 6 look c1
    RUNNING revision 2
    plan RUNNING [1:ada:LOST 2:bob:None]
    a RUNNING [1:ada:LOST 2:bob:None]
    b READY waits for a worker with model:m: none that is attached has it [1:ada:LOST]
> 7 edit c1 +plan
    refused: star plan: there is a star of this name already
> 7 edit c1 nobody->a
    refused: star nobody: there is no such star; there are plan, a, b
> 7 edit c1 a->a
    refused: star a: is RUNNING and cannot be given other parents any more
> 7 edit c1 +x base=9
    refused: base_revision: 9 has not been reached: the graph is at 2
> 7 submit c1 text=other
    refused: request_id 'c1' exists already: it named another request
> 7 submit c1
    answer: c1 at revision 2 (known)

# A second live process under one name is refused; after the first has gone, the new one takes over and its work is lost.
> 1 attach ada slots=1
    record worker ada joined, instance one, 1 slots
> 2 submit c1
    answer: c1 at revision 1
    record c1 accepted
    record c1 revision 1 by client:me: +plan
    record plan attempt 1 on ada, token 1
    effect to ada: run plan attempt 1, token 1
> 3 attach ada slots=1 instance=two
    refused: worker 'ada' exists already: another process is attached under this name
> 4 detach ada
> 5 attach ada slots=1 instance=two
    record plan attempt 1 LOST: worker_lost, again at once
    record worker ada joined, instance two, 1 slots
    record plan attempt 2 on ada, token 2
    effect to ada: run plan attempt 2, token 2
> 6 succeed 1 ada "from_the_old_process"
    effect to ada: acknowledged token 1
> 7 succeed 2 ada null
    record plan SUCCEEDED
    record c1 SUCCEEDED
    effect to ada: acknowledged token 2

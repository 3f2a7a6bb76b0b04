"""`asterism submit`."""

from uuid import uuid4

from asterism.protocol.commands.options import (
    Address,
    BudgetReplans,
    BudgetSeconds,
    BudgetStars,
    BudgetTokens,
    Form,
    Output,
    OutputFormat,
    RequestId,
    Source,
    TokenFile,
)


def submit(
    source: Source,
    form: Form = None,
    request_id: RequestId = None,
    max_stars: BudgetStars = None,
    max_seconds: BudgetSeconds = None,
    max_tokens: BudgetTokens = None,
    max_replans: BudgetReplans = None,
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Submit a request, print its id, and do not wait for it."""
    from asterism.protocol.commands.actions import submit as action
    from asterism.protocol.commands.actions.source import read_request

    budget = action.budget_of(max_stars, max_seconds, max_tokens, max_replans)
    action.submit(read_request(source, form), request_id or uuid4().hex, budget, address, token_file, output)

"""What the worker's file may say of models and of serving them.

[models.writer]                      # offered as model:writer
url = "https://llm.example/v1"       # any server of OpenAI's APIs of chats or completions
model = "large-instruct"             # its name there; needless where the server has one only
key_env = "LLM_KEY"                  # or key_file = "/etc/asterism/llm.key"; never the key itself
context_tokens = 128000              # needless where the server says it (vLLM, SGLang, ours)
price = { prompt = 2.5, cached = 1.25, answer = 10.0 }  # of a million tokens

[models.small]
folder = "/srv/models/small"         # a model folder that this worker computes itself

[serve_models]
listen = "127.0.0.1:8000"            # what this worker's models answer at, as such a server
"""

from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from asterism.workers.engine.http_dialects import Api, Dialect

MAX_MODELS: Final = 256

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Money = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=1, le=1 << 30)]


class _Table(BaseModel):
    """A key that is not here is refused: it is a wish that nobody would fulfil."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PriceTable(_Table):
    """Of a million tokens, in a currency of the reader's."""

    prompt: Money = 0.0
    cached: Money | None = None
    answer: Money = 0.0


class ModelTable(_Table):
    """`[models.NAME]`: a server, or a folder."""

    folder: Path | None = None
    url: str | None = None
    model: str | None = Field(default=None, min_length=1, max_length=256)
    api: Api | None = None
    """The only one to use. Without it, conversations go to chats, and prompts to completions."""
    server: Dialect | None = None
    """What kind it is. Without it, what its list of models says."""
    schemas: bool | None = None
    """Whether it constrains answers by JSON schemas. Without it, that is found out."""
    key_env: str | None = None
    key_file: Path | None = None
    context_tokens: Tokens | None = None
    max_sequences: Annotated[int, Field(ge=1, le=4096)] = 64
    max_tokens: Tokens | None = None
    retries: Annotated[int, Field(ge=0, le=100)] = 4
    retry_s: Seconds = 30.0
    """At most between two tries."""
    connect_s: Seconds = 10.0
    first_token_s: Seconds = 600.0
    token_s: Seconds = 120.0
    price: PriceTable = PriceTable()

    @model_validator(mode="after")
    def _is_one_of_two(self) -> "ModelTable":
        if (self.folder is None) == (self.url is None):
            raise ValueError("has either a url or a folder")
        others = self.model_fields_set - {"folder"}
        if self.folder is not None and others:
            raise ValueError(f"is a folder, which takes no {', '.join(sorted(others))}")
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError("its url does not begin with http:// or https://")
        if self.url is not None and "@" in self.url:
            raise ValueError("its url names a user: keys come from key_env or key_file")
        if self.key_env is not None and self.key_file is not None:
            raise ValueError("has key_env or key_file, not both")
        return self


class ServeTable(_Table):
    """`[serve_models]`."""

    listen: str
    token_file: Path | None = None

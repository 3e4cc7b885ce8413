"""What `weldlm train` learns from: text that it encodes itself, or a corpus of `weldlm data`."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from weldlm.cli.model_folder import load_tokenizer
from weldlm.cli.vocabulary import DEFAULT_VOCAB_SIZE, learn_tokenizer

if TYPE_CHECKING:
    from weldlm.config import ModelConfig
    from weldlm.data.pipeline import PreparedCorpus
    from weldlm.data.prepare import Corpus
    from weldlm.distributed import Ranks
    from weldlm.tokenizer import Tokenizer

__all__ = ["DEFAULT_HELD_OUT", "Texts", "find_tokenizer", "prepare_once"]

DEFAULT_HELD_OUT = 0.02


@dataclass(frozen=True, slots=True)
class Texts:
    """What a run is made from."""

    data: Path
    out: Path  # folder of the run
    held_out: float | None
    tokenizer_path: Path | None
    vocab_size: int | None

    @property
    def is_prepared(self) -> bool:
        """Whether the data is a corpus of `weldlm data`."""
        from weldlm.data.pipeline import is_prepared

        return is_prepared(self.data)


def find_tokenizer(config: "ModelConfig", texts: Texts, model: Path | None) -> "Tokenizer | None":
    """The tokenizer of a run; None where it learns one.

    Args:
        config: of the model.
        texts: the data and the options about it.
        model: folder of the model that the run goes on with.

    Raises:
        click.UsageError: an option has no meaning here.
        ValueError: the corpus was prepared for models of another kind, or has another tokenizer
            than the model.
    """
    if model is not None and (texts.tokenizer_path or texts.vocab_size):
        raise click.UsageError(
            "--tokenizer and --vocab-size are of new models; the model's own is taken"
        )
    path = texts.tokenizer_path or model
    if not texts.is_prepared:
        return None if path is None else load_tokenizer(path)
    if texts.tokenizer_path or texts.vocab_size or texts.held_out is not None:
        raise click.UsageError(
            f"--tokenizer, --vocab-size and --held-out are of texts; {texts.data} has its own"
        )
    from weldlm.data.pipeline import open_prepared

    found = open_prepared(texts.data)
    _require_kind(found, config)
    tokenizer = found.corpus.tokenizer
    if model is not None:
        _require_same(tokenizer, load_tokenizer(model), texts.data, model)
    return tokenizer


def prepare_once(
    config: "ModelConfig", texts: Texts, tokenizer: "Tokenizer | None", ranks: "Ranks"
) -> "Corpus":
    """The first rank prepares the corpus; the others wait, then read it."""
    from weldlm.data.prepare import open_corpus

    is_prepared = texts.is_prepared
    prepared: list[Corpus] = []
    ranks.ask_first(
        lambda: prepared.append(
            _take_prepared(texts) if is_prepared else _prepare(config, texts, tokenizer)
        )
    )
    if ranks.is_first:
        return prepared[0]
    return _open(texts, verify=False) if is_prepared else open_corpus(texts.out)


def _take_prepared(texts: Texts) -> "Corpus":
    corpus = _open(texts, verify=True)
    texts.out.mkdir(parents=True, exist_ok=True)
    corpus.tokenizer.save(texts.out / "tokenizer.json")  # goes into every checkpoint
    return corpus


def _open(texts: Texts, *, verify: bool) -> "Corpus":
    from weldlm.data.pipeline import open_prepared

    return open_prepared(texts.data, verify=verify).corpus


def _prepare(config: "ModelConfig", texts: Texts, tokenizer: "Tokenizer | None") -> "Corpus":
    from weldlm.data.corpus import read_documents, standard_library
    from weldlm.data.prepare import prepare_corpus
    from weldlm.pretraining import tokenizer_options

    data, vocab_size = texts.data, texts.vocab_size
    learn = partial(learn_tokenizer, vocab_size=vocab_size, **tokenizer_options(config))
    return prepare_corpus(
        standard_library() if str(data) == "stdlib" else list(read_documents(data)),
        texts.out,
        held_out=DEFAULT_HELD_OUT if texts.held_out is None else texts.held_out,
        tokenizer=learn if tokenizer is None else tokenizer,
        vocabulary=_describe_vocabulary(tokenizer, vocab_size),
        has_frame=config.is_decoder,
    )


def _describe_vocabulary(tokenizer: "Tokenizer | None", vocab_size: int | None) -> str:
    if tokenizer is None:
        return f"of size {DEFAULT_VOCAB_SIZE if vocab_size is None else vocab_size}"
    from weldlm.tokenizer.fingerprint import fingerprint

    return f"with fingerprint {fingerprint(tokenizer)[:12]}"


def _require_kind(found: "PreparedCorpus", config: "ModelConfig") -> None:
    if found.has_frame != config.is_decoder:
        kinds = {True: "decoders", False: "encoders or encoder-decoders"}
        raise ValueError(
            f"{found.folder} was prepared for {kinds[found.has_frame]}; the model is one of the "
            f"{kinds[config.is_decoder]}; prepare it with another weldlm data --kind"
        )


def _require_same(corpus: "Tokenizer", model: "Tokenizer", data: Path, folder: Path) -> None:
    from weldlm.tokenizer.fingerprint import fingerprint

    if fingerprint(corpus) != fingerprint(model):
        raise ValueError(
            f"{data} was encoded with another tokenizer than that of {folder}; expected the "
            f"model's own; prepare the corpus with weldlm data --tokenizer {folder}"
        )

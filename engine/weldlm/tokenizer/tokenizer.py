"""The tokenizer as its users meet it: files, training, batches as in transformers, chats."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, Unpack, get_args

from weldlm.atomic_file import replace_text
from weldlm.tokenizer.algorithms import Algorithm, Settings, learn, settings_of
from weldlm.tokenizer.batch_encoding import BatchEncoding
from weldlm.tokenizer.batch_options import BatchOptions, encode_rows
from weldlm.tokenizer.chat_segments import render_segments
from weldlm.tokenizer.chat_template import Messages, render_chat
from weldlm.tokenizer.codec import Codec
from weldlm.tokenizer.compiled import Compiled, compile_parts
from weldlm.tokenizer.compiled_cache import read_compiled
from weldlm.tokenizer.files import read_tokenizer_file, read_tokenizer_folder
from weldlm.tokenizer.parts import TokenizerParts
from weldlm.tokenizer.tiktoken_ranks import RankRules, write_tiktoken
from weldlm.tokenizer.tokenizer_config import TokenizerConfig, write_config
from weldlm.tokenizer.tokenizer_json import write_tokenizer_json
from weldlm.tokenizer.training import END_OF_TEXT, Progress
from weldlm.tokenizer.vocab_txt import vocab_txt_tokens, write_vocab_txt

__all__ = ["Tokenizer"]

Format: TypeAlias = Literal["tokenizer.json", "tiktoken", "vocab.txt"]

_MOST_MESSAGE = 500  # characters of an error

_Loaded: TypeAlias = tuple[Compiled, TokenizerConfig]


class Tokenizer(Codec):
    """Text to ids and back. Threads may share it; a fork is safe at any time."""

    def __init__(
        self,
        parts: TokenizerParts | Compiled,
        config: TokenizerConfig = TokenizerConfig(),  # noqa: B008 (frozen)
    ) -> None:
        """
        Args:
            parts: what decides the ids.
            config: roles of special tokens, chat template and defaults of batches.

        Raises:
            ValueError: the parts do not fit together: a byte has no token, a merge does not join
                its parts, an added token is empty, repeated or overlong.
        """
        super().__init__(parts)
        self.config = config

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        algorithm: Algorithm | Settings = "bpe",
        special_tokens: Sequence[str] | None = None,
        min_frequency: int | None = None,
        allow_smaller: bool = False,
        num_threads: int | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Learns a vocabulary: the merges of byte-level BPE, WordPiece as BERT's, or Unigram.

        BPE and WordPiece learn what the trainers of tokenizers 0.23 do, Unigram what that of
        sentencepiece does.

        Args:
            texts: read once, in bounded batches; special tokens in them count as plain text.
            vocab_size: special tokens, bytes or characters, and longer tokens.
            algorithm: by its name, or its settings: `BpeSettings`, `WordPieceSettings`,
                `UnigramSettings`.
            special_tokens: take the ids from 0. Default: <|endoftext|> of BPE, [PAD] [UNK] [CLS]
                [SEP] [MASK] of WordPiece, <unk> <s> </s> of Unigram.
            min_frequency: pairs that occur less often are not merged, by default 2.
            allow_smaller: take as many tokens as the texts support where that is fewer.
            num_threads: default all cores; the result does not depend on it.
            progress: called now and then with how much is done, and how much there is to do.

        Raises:
            ValueError: the texts do not support vocab_size tokens, and allow_smaller is not set.
        """
        settings = settings_of(
            algorithm, special_tokens=special_tokens, min_frequency=min_frequency
        )
        parts, config = learn(
            texts,
            vocab_size,
            settings,
            allow_smaller=allow_smaller,
            num_threads=num_threads,
            progress=progress,
        )
        return cls(parts, config)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        pattern: str | None = None,
        special_tokens: Mapping[str, int] | None = None,
        use_cache: bool = True,
    ) -> Self:
        """Reads a file of any format that `weldlm.tokenizer.files` knows, whatever its name.

        Args:
            pattern: of a rank file: the regular expression that splits text, `pat_str` of tiktoken.
            special_tokens: of a rank file, with their ids.
            use_cache: keep the compiled tables of a large vocabulary in the user's cache folder
                and take them from there the next time.

        Raises:
            FileNotFoundError: there is no such file.
            IsADirectoryError: it is a folder.
            ValueError: the file is damaged or asks for what this package does not do.
        """
        reader = _Reader(_rules(pattern, special_tokens), use_cache)
        return cls._read(_path(path), lambda file: reader(file, {}))

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        pattern: str | None = None,
        special_tokens: Mapping[str, int] | None = None,
        use_cache: bool = True,
    ) -> Self:
        """Reads the tokenizer of a model, with its special tokens and chat template.

        Args:
            path: the model's folder or file, as `load_pretrained` takes it.
            pattern, special_tokens, use_cache: as in `from_file`.

        Raises:
            FileNotFoundError: the model has no tokenizer.
            ValueError: a file is damaged or asks for what this package does not do.
        """
        reader = _Reader(_rules(pattern, special_tokens), use_cache)
        return cls._read(_path(path), lambda folder: read_tokenizer_folder(folder, reader))

    @classmethod
    def _read(cls, path: Path, read: Callable[[Path], _Loaded]) -> Self:
        try:
            compiled, config = read(path)
            return cls(compiled, config)
        except ValueError as error:
            text = str(error)
            if len(text) > _MOST_MESSAGE:  # it quotes a long text of the file
                text = f"{text[: _MOST_MESSAGE // 2]} ... {text[-_MOST_MESSAGE // 2 :]}"
            raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from error

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes tokenizer.json and tokenizer_config.json, which transformers reads."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.save(folder / "tokenizer.json")
        text = json.dumps(write_config(self.config), ensure_ascii=False, indent=2)
        replace_text(folder / "tokenizer_config.json", text + "\n")

    def save(self, path: str | Path, *, format: Format = "tokenizer.json") -> None:
        """Writes one file, by default a tokenizer.json that the tokenizers library reads.

        Args:
            format: "tiktoken" for the ranks of byte-level BPE, "vocab.txt" for the tokens of
                WordPiece; neither has a place for special tokens or for how text is split.

        Raises:
            IsADirectoryError: the path is that of a folder.
            ValueError: the format has no way to say what this tokenizer does.
        """
        path = _path(path)
        match format:
            case "tokenizer.json":
                write_tokenizer_json(path, self.parts)
            case "tiktoken":
                write_tiktoken(path, self.parts)
            case "vocab.txt":
                write_vocab_txt(path, vocab_txt_tokens(self.parts))
            case _:
                raise ValueError(f"format is {format!r}; expected one of {get_args(Format)}")

    @property
    def algorithm(self) -> str:
        """What makes tokens of text: "byte-level BPE", "WordPiece", "Unigram" and the like."""
        return self.parts.model.algorithm

    def role_id(self, role: str) -> int | None:
        """The id of a special token by its role, such as "pad_token"; None if there is none."""
        token = self.config.roles.get(role)
        return None if token is None else self.token_to_id(token)

    @property
    def bos_id(self) -> int | None:
        return self.role_id("bos_token")

    @property
    def eos_id(self) -> int | None:
        """The id of the role eos_token, else of <|endoftext|> where that is a special token."""
        eos_id = self.role_id("eos_token")
        return self.special_tokens.get(END_OF_TEXT) if eos_id is None else eos_id

    @property
    def pad_id(self) -> int | None:
        return self.role_id("pad_token")

    def __call__(
        self,
        text: str | Sequence[str],
        text_pair: str | Sequence[str] | None = None,
        **options: Unpack[BatchOptions],
    ) -> BatchEncoding:
        """Encodes texts, or pairs of texts, into rows as transformers' tokenizers do.

        Special tokens in the texts take effect, unless `split_special_tokens` is set. One text
        gives columns without the axis of the batch. The options are those of transformers, see
        `weldlm.tokenizer.batch_options.BatchOptions`.

        Raises:
            ValueError: options contradict each other, or a text cannot be cut as they say.
        """
        return encode_rows(self, text, text_pair, options)

    def apply_chat_template(
        self,
        messages: Messages,
        *,
        add_generation_prompt: bool = False,
        tokenize: bool = True,
        trusts_contents: bool = True,
        chat_template: str | None = None,
        **variables: Any,
    ) -> str | list[int]:
        """Turns messages into a prompt, or into its ids.

        Args:
            messages: with "role" and "content".
            add_generation_prompt: end with what begins the assistant's answer.
            tokenize: return ids, not text.
            trusts_contents: special tokens in the messages and variables take effect, as in
                transformers; False makes all text that the caller gives plain text.
            chat_template: Jinja source; by default the model's.
            variables: what else the template asks for, such as tools.

        Raises:
            ValueError: there is no template, it is broken, or it refuses the messages.
        """
        template = chat_template or self.config.chat_templates.get("default")
        if template is None:
            raise ValueError(
                "this tokenizer has no chat template; pass chat_template, or format the prompt"
            )
        options: dict[str, Any] = {
            "special_tokens": self.config.roles,
            "add_generation_prompt": add_generation_prompt,
            "variables": variables,
        }
        if not tokenize:
            return render_chat(template, messages, **options)
        if not trusts_contents:
            guarded = self._special_tokens
            return self.encode_segments(
                render_segments(template, messages, guarded=guarded, **options)
            )
        text = render_chat(template, messages, **options)
        return self.encode(text, add_special_tokens=False, allowed_special="all")

    def __reduce__(self) -> tuple[type[Self], tuple[TokenizerParts, TokenizerConfig]]:
        return type(self), (self.parts, self.config)

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, special_tokens={self.special_tokens})"


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the file of a tokenizer, from the cache where it may."""

    rules: RankRules | None
    use_cache: bool

    def __call__(self, path: Path, settings: Mapping[str, object]) -> _Loaded:
        if self.use_cache:
            key = "" if self.rules is None else repr(self.rules)
            return read_compiled(path, settings, self._parse, key=key)
        parts, config = self._parse(path, settings)
        return compile_parts(parts), config

    def _parse(
        self, path: Path, settings: Mapping[str, object]
    ) -> tuple[TokenizerParts, TokenizerConfig]:
        return read_tokenizer_file(path, settings, rules=self.rules)


def _rules(pattern: str | None, special_tokens: Mapping[str, int] | None) -> RankRules | None:
    if pattern is None and special_tokens is None:
        return None
    return RankRules(pattern, special_tokens)


def _path(path: str | Path) -> Path:
    if path == "":  # which to pathlib is the working folder
        raise ValueError("path is empty; expected that of a file or folder")
    return Path(path)

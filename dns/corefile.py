"""The grammar of a Corefile (corefile(5); the Caddyfile lexer it comes from): text in, server blocks out.

The rule kept here: this file knows no plugin. It reads tokens, follows `import`, puts in environment variables, and gives
every token the file and line it came from, so that whoever objects later can point at it.

    Corefile  = { snippet | block }
    snippet   = "(" name ")" "{" lines "}"
    block     = key { [","] key } "{" lines "}"           one block alone may leave the braces out
    line      = directive { argument } [ "{" lines "}" ]
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

MAX_IMPORT_DEPTH = 32
MAX_TOKENS = 1_000_000


@dataclass(frozen=True, slots=True)
class Token:
    """A word, where it stands, and how many lines it runs over. `origin` tells the words of one import from those of
    another, whose line numbers may be the same."""

    text: str
    file: str
    line: int
    quoted: bool = False
    lines: int = 0
    origin: int = 0

    def __str__(self) -> str:
        return self.text


class ConfigError(Exception):
    """A Corefile that cannot be served: where, at which word, and why."""

    def __init__(self, reason: str, token: Token | None = None, *, file: str = "Corefile", line: int = 1) -> None:
        self.reason = reason
        self.token = token.text if token else ""
        self.file = token.file if token else file
        self.line = token.line if token else line
        near = f" near '{self.token}'" if token and f"'{self.token}'" not in reason else ""
        super().__init__(f"{self.file}:{self.line} - Error during parsing: {reason}{near}")


@dataclass(frozen=True, slots=True)
class Directive:
    """A line: its name, its arguments, and the lines of its block, if it has one."""

    token: Token
    args: tuple[Token, ...] = ()
    block: tuple[Directive, ...] = ()
    has_block: bool = False

    @property
    def name(self) -> str:
        """The first word."""
        return self.token.text

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments as text."""
        return tuple(arg.text for arg in self.args)

    def error(self, reason: str, token: Token | None = None) -> ConfigError:
        """An error that points at one of the words."""
        return ConfigError(reason, token or self.token)


@dataclass(frozen=True, slots=True)
class ServerBlock:
    """The keys as written and the directives in the order of the file."""

    keys: tuple[Token, ...]
    directives: tuple[Directive, ...]


def parse_corefile(text: str, file: str = "Corefile", environ: Mapping[str, str] | None = None) -> list[ServerBlock]:
    """All server blocks. Imports of files are relative to `file`."""
    return _Parser(_lex(text, file), file, environ or {}).blocks()


def _lex(text: str, file: str) -> list[Token]:
    """Words: separated by space, quoted with `"`, `#` to the end of the line is a comment."""
    tokens: list[Token] = []
    line, index, size = 1, 1 if text.startswith("\ufeff") else 0, len(text)
    while index < size:
        char = text[index]
        if char == "\n":
            line, index = line + 1, index + 1
        elif char.isspace():
            index += 1
        elif char == "#":
            index = _end_of_line(text, index)
        elif char == '"':
            value, index, passed = _quoted(text, index, Token('"', file, line))
            tokens.append(Token(value, file, line, quoted=True, lines=passed))
            line += passed
        else:
            start = index
            while index < size and not text[index].isspace() and text[index] != "#":
                index += 1
            tokens.append(Token(text[start:index], file, line))
    if len(tokens) > MAX_TOKENS:
        raise ConfigError(f"more than {MAX_TOKENS} words", tokens[MAX_TOKENS])
    return tokens


def _end_of_line(text: str, index: int) -> int:
    end = text.find("\n", index)
    return len(text) if end < 0 else end


def _quoted(text: str, index: int, opening: Token) -> tuple[str, int, int]:
    r"""The text up to the closing quote; only `\"` is an escape, so that regular expressions stay readable."""
    pieces: list[str] = []
    index += 1
    while index < len(text):
        char = text[index]
        if char == "\\" and text[index + 1 : index + 2] == '"':
            pieces.append('"')
            index += 2
        elif char == '"':
            value = "".join(pieces)
            return value, index + 1, value.count("\n")
        else:
            pieces.append(char)
            index += 1
    raise ConfigError("this quote is never closed", opening)


_VARIABLE = re.compile(r"\{\$([^}{]+)\}|\{%([^}{%]+)%\}")
_ARGUMENT = re.compile(r"\{args\[(\d+)\]\}")


class _Parser:
    def __init__(self, tokens: list[Token], file: str, environ: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._at = 0
        self._file = file
        self._environ = environ
        self._snippets: dict[str, list[Token]] = {}
        self._imports = 0

    def blocks(self) -> list[ServerBlock]:
        """Every block; snippets are kept for `import`."""
        found: list[ServerBlock] = []
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.text == "import" and not token.quoted:
                self._import()
            elif not token.quoted and token.text.startswith("(") and token.text.endswith(")"):
                self._snippet()
            else:
                block = self._block(first=not found)
                if block.keys:
                    found.append(block)
        return found

    def _snippet(self) -> None:
        token = self._next()
        name = token.text[1:-1]
        if not name:
            raise ConfigError("a snippet needs a name", token)
        if name in self._snippets:
            raise ConfigError(f"redeclaration of previously declared snippet '{name}'", token)
        if self._at >= len(self._tokens) or self._tokens[self._at].text != "{":
            raise ConfigError("a snippet needs a '{'", token)
        opening = self._next()
        start, depth = self._at, 1
        while depth:
            if self._at >= len(self._tokens):
                raise ConfigError("this '{' is never closed", opening)
            word = self._next()
            depth += _is(word, "{") - _is(word, "}")
        self._snippets[name] = self._tokens[start : self._at - 1]

    def _block(self, *, first: bool) -> ServerBlock:
        keys: list[Token] = []
        braces = False
        line = self._tokens[self._at].line
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            if _is(token, "{"):
                braces = True
                break
            if _is(token, "}"):
                raise ConfigError("unexpected '}' - no matching opening brace", token)
            # Keys go on in the next line only after a comma; else the block has no braces.
            if token.line != line and not self._tokens[self._at - 1].text.endswith(","):
                break
            if token.text == "import" and not keys:
                break
            line = token.line
            self._at += 1
            keys += self._keys(token)
        if not keys:
            at = min(self._at, len(self._tokens) - 1)
            raise ConfigError("a server block needs a zone before '{'", self._tokens[at])
        if not braces:
            if not first:
                raise ConfigError("expected '{' after the zones of a server block", keys[-1])
            return ServerBlock(tuple(keys), tuple(self._lines(None)))
        opening = self._next()
        if self._at < len(self._tokens) and self._tokens[self._at].line == opening.line:
            raise ConfigError("unexpected word after '{'", self._tokens[self._at])
        return ServerBlock(tuple(keys), tuple(self._lines(opening)))

    def _keys(self, token: Token) -> Iterator[Token]:
        for part in self._expand(token).text.split(","):
            if part:
                yield replace(token, text=part)

    def _lines(self, opening: Token | None) -> Iterator[Directive]:
        """The lines up to the brace that closes `opening`, or up to the end."""
        while True:
            if self._at >= len(self._tokens):
                if opening is not None:
                    raise ConfigError("this '{' is never closed", opening)
                return
            token = self._tokens[self._at]
            if _is(token, "}"):
                if opening is None:
                    raise ConfigError("unexpected '}' - no matching opening brace", token)
                self._at += 1
                return
            if _is(token, "{"):
                raise ConfigError("unexpected '{' - a directive must come first", token)
            if token.text == "import" and not token.quoted:
                self._import()
                continue
            yield self._line()

    def _line(self) -> Directive:
        name = self._next()
        args: list[Token] = []
        line = name.line + name.lines
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            if (token.line, token.file, token.origin) != (line, name.file, name.origin) or _is(token, "}"):
                break
            self._at += 1
            if _is(token, "{"):
                if self._at < len(self._tokens) and self._tokens[self._at].line == token.line:
                    raise ConfigError("unexpected word after '{'", self._tokens[self._at])
                return Directive(self._expand(name), tuple(args), tuple(self._lines(token)), has_block=True)
            args.append(self._expand(token))
            line += token.lines
        return Directive(self._expand(name), tuple(args))

    def _import(self) -> None:
        """Put the words of a snippet or of files in the place of the line."""
        start = self._at
        word = self._next()
        args = []
        while self._at < len(self._tokens) and self._tokens[self._at].line == word.line:
            token = self._tokens[self._at]
            if (token.file, token.origin) != (word.file, word.origin) or _is(token, "{") or _is(token, "}"):
                break
            args.append(self._expand(self._next()))
        if not args:
            raise ConfigError("import needs the name of a snippet or a file", word)
        self._imports += 1
        if self._imports > MAX_IMPORT_DEPTH * 32:
            raise ConfigError("imports go round in a circle", args[0])
        name = args[0]
        words = self._snippets.get(name.text)
        imported = self._files(name) if words is None else _with_arguments(words, args[1:])
        self._tokens[start : self._at] = [replace(word, origin=self._imports) for word in imported]
        if len(self._tokens) > MAX_TOKENS:
            raise ConfigError("imports go round in a circle", name)
        self._at = start

    def _files(self, name: Token) -> list[Token]:
        base = Path(name.file).parent
        has_pattern = any(char in name.text for char in "*?[")
        if has_pattern and name.text.count("*") > 1:
            raise ConfigError(f"glob pattern may only contain one wildcard (*), but has others: {name.text}", name)
        path = Path(name.text)
        root, pattern = (
            (Path(path.anchor), str(path.relative_to(path.anchor))) if path.is_absolute() else (base, name.text)
        )
        files = sorted(root.glob(pattern)) if has_pattern else [root / pattern]
        words: list[Token] = []
        for each in files:
            if each.is_dir() and has_pattern:
                continue
            try:
                words += _lex(each.read_text(encoding="utf-8"), str(each))
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
                raise ConfigError(f"File to import not found or not readable: {each}: {reason}", name) from error
        return words

    def _expand(self, token: Token) -> Token:
        """`{$NAME}` and `{%NAME%}` become the variable's value; an unset one becomes nothing."""
        if "{$" not in token.text and "{%" not in token.text:
            return token
        return replace(token, text=_VARIABLE.sub(lambda m: self._environ.get(m[1] or m[2], ""), token.text))

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token


def _with_arguments(words: list[Token], args: list[Token]) -> list[Token]:
    def value(found: re.Match[str]) -> str:
        index = int(found[1])
        return args[index].text if index < len(args) else ""

    return [replace(word, text=_ARGUMENT.sub(value, word.text)) if "{args[" in word.text else word for word in words]


def _is(token: Token, brace: str) -> bool:
    return token.text == brace and not token.quoted

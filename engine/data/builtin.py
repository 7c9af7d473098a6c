"""The built-in text: the documentation of the Python that runs, about two megabytes of English on every machine."""

import ast
import sysconfig
import warnings
from functools import cache
from hashlib import blake2b
from inspect import cleandoc
from pathlib import Path
from pydoc_data.topics import topics

# Tests and vendored or generated trees are not documentation (and not installed everywhere).
_SKIP = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "lib-dynload", "pydoc_data"}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _docstrings(source: bytes) -> list[str]:
    """Every docstring of a module in the order of the source; one that repeats within the module is kept once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in the library's own files
        tree = ast.parse(source)
    nodes = [node for node in ast.walk(tree) if isinstance(node, _DOCUMENTED)]
    nodes.sort(key=lambda node: getattr(node, "lineno", 0))
    docstrings = (ast.get_docstring(node, clean=False) for node in nodes)
    return list(dict.fromkeys(cleandoc(text).strip() for text in docstrings if text and text.strip()))


@cache
def builtin_documents() -> tuple[str, ...]:
    """One document for each module of the standard library that has docstrings, then one for each help topic.

    The order is that of the module paths and topic names, so that the text depends on the Python version only.
    """
    root = Path(sysconfig.get_path("stdlib"))
    paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}
    documents = []
    for name in sorted(name for name in paths if _SKIP.isdisjoint(name.split("/"))):
        try:
            documents.append("\n\n".join(_docstrings(paths[name].read_bytes())))
        except (SyntaxError, ValueError, OSError):  # a deliberately broken or unreadable file documents nothing
            continue
    documents += [topics[name].strip() for name in sorted(topics)]
    return tuple(text for text in documents if text)


@cache
def builtin_text() -> str:
    """All built-in documents in one string, a blank line between them."""
    return "\n\n".join(builtin_documents())


@cache
def text_hash() -> str:
    """BLAKE2b (16 bytes, hexadecimal) of the built-in text in UTF-8."""
    return blake2b(builtin_text().encode(), digest_size=16).hexdigest()

"""What mkdocs needs to know beyond mkdocs.yml: the README is the first page, what pages link to outside of docs/ comes
along, and equations become MathML, which browsers draw by themselves."""

import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)#\s:]+)(#[^)\s]*)?\)")
MATH = re.compile(r"```.*?```|`[^`\n]*`|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+?)\$", re.S)
README = "index.md"


def source(page: str) -> Path:
    """The file that a page is made of, by its path in the site."""
    if page == README:
        return ROOT / "README.md"
    return ROOT / "docs" / page if (ROOT / "docs" / page).is_file() else ROOT / page


def in_site(path: Path) -> str:
    """Where a file of the repository lies in the site."""
    parts = path.relative_to(ROOT).parts
    return README if parts == ("README.md",) else "/".join(parts[1:] if parts[0] == "docs" else parts)


def on_files(files, config):
    """Adds the README and, of what the pages link to, the pages and pictures outside of docs/."""
    waiting = [README, *(file.src_uri for file in files.documentation_pages())]
    known = {file.src_uri for file in files}
    while waiting:
        page = waiting.pop()
        path = source(page)
        if page not in known:
            files.append(File.generated(config, page, abs_src_path=str(path)))
            known.add(page)
        if path.suffix == ".md":
            targets = ((path.parent / target).resolve() for _, target, _ in LINK.findall(path.read_text()))
            places = {
                in_site(one) for one in targets if one.is_file() and one.suffix in (".md", ".png", ".jpg")
            }
            waiting += sorted(places - known)
    return files


def on_page_markdown(markdown, page, **_):
    """Links as they are in the site, equations as MathML."""
    here = source(page.file.src_uri).parent
    depth = page.file.src_uri.count("/")

    def moved(found: re.Match) -> str:
        words, target, anchor = found.groups()
        path = (here / target).resolve()
        if path.is_file() and path.suffix in (".md", ".png", ".jpg"):
            return f"{words}({'../' * depth}{in_site(path)}{anchor or ''})"
        if path.exists():  # code, folders: named, for they are in the checkout
            return words[1:-1] if words.startswith("[") else ""
        return found[0]

    def drawn(found: re.Match) -> str:
        if found["block"]:
            return f"<div>{convert(found['block'].strip(), display='block')}</div>"
        return convert(found["inline"]) if found["inline"] else found[0]

    return MATH.sub(drawn, LINK.sub(moved, markdown))

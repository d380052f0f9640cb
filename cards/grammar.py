"""Read what an answer claims about the data, by a small grammar of English sentences.

The grammar would rather miss a claim than find one that nobody made. A sentence is read only where its words fit a pattern to the end of
the clause; a sentence that hedges, denies, plans, or speaks of other people (a panel, a census, a test set, a published study) claims
nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from cards.claims import Claim, Vocabulary

PEOPLE = r"(?:patients?|people|persons?|participants?|individuals?|subjects?)"
IMAGES = r"(?:images?|photographs?|photos?|pictures?|scans?)"
SET = r"(?:(?:this|the|our) )?(?:data ?set|set|data|archive|cohort|collection|sample)"
NUMBER = r"(?P<{0}>\d{{1,3}}(?:,\d{{3}})+|\d+)"
ABOUT = r"(?P<{0}>about|around|approximately|roughly|some|nearly|almost|more than|over|at least|fewer than|less than|up to|under)?"
ATTRIBUTE_WORDS = {
    "age": "age", "ages": "age", "sex": "sex", "gender": "sex", "ethnicity": "ethnicity", "ethnic group": "ethnicity", "race": "ethnicity",
    "site": "site", "hospital": "site", "centre": "site", "center": "site", "device": "device", "camera": "device",
    "laterality": "laterality", "eye side": "laterality", "date": "acquired_on", "acquisition date": "acquired_on", "consent": "consent",
}  # fmt: skip
SEX_WORDS = {"women": "female", "woman": "female", "female": "female", "females": "female", "men": "male", "male": "male", "males": "male"}

# Sentences that hedge, deny or plan; and those that speak of other people than the set's.
_HEDGED = re.compile(
    r"\b(?:not|no longer|never|\w+n't|cannot|unless|if|whether|would|could|should|may|might|will|until|ideally|sought|goal"
    r"|aim(?:s|ed|ing)?|intend(?:s|ed)?|plan(?:s|ned)?|tr(?:y|ied|ies)|attempt(?:s|ed)?|hope[sd]?|target(?:s|ed)?"
    r"|as far as|as much as possible|where possible)\b"
)
_PANEL = (
    r"graders?|readers?|raters?|annotators?|staff|clinicians?|doctors|ophthalmologists?|optometrists?|experts?|committee|board|panel"
    r"|survey(?:ed)?|workshops?|consulted|interview(?:s|ed)?|asked|advis(?:ed|ory)"
)
_ELSEWHERE = (
    r"population|census|national(?:ly)?|country|county|region(?:al)?|published|previous(?:ly)?|earlier|others?|another|trials?|model"
    r"|test(?:ed|ing)?|hold-?out|held|validation|each|per|excluded|removed|left out|withdr[ae]wn?"
)
_OTHERS = re.compile(rf"\b(?:{_PANEL}|{_ELSEWHERE})\b")
_PANELS = re.compile(rf"\b(?:{_PANEL})\b")


def sentences(text: str) -> list[str]:
    """Split a text into sentences, each in one line."""
    flat = [" ".join(p.split()) for p in re.split(r"\n\s*\n", text)]
    return [s for p in flat for s in re.split(r"(?<=[.!?;])\s+(?=[A-Z0-9‘'\"])", p) if s]


def _plain(sentence: str) -> str:
    text = sentence.lower().replace("’", "'").replace("‐", "-").replace("–", "-").replace("\u202f", " ").replace("\xa0", " ")
    text = re.sub(r"\s*(?:%|per ?cent\b|percent\b)", "%", text)
    return " ".join(text.split())


def _rest(text: str, end: int) -> str:
    """Give what follows up to the end of the clause."""
    return re.split(r"[,.;:()!?]|\bbut\b|\balthough\b|\bwhile\b", text[end:], maxsplit=1)[0].strip()


def _whole(text: str) -> int:
    return int(text.replace(",", ""))


def _attributes(words: str, vocabulary: Vocabulary) -> list[str]:
    """List the attributes that words name, in order; empty where other words stand between them."""
    known = {**ATTRIBUTE_WORDS, **vocabulary.columns}
    names = "|".join(sorted(map(re.escape, known), key=len, reverse=True))
    if not re.fullmatch(rf"(?:(?:the )?(?:{names})(?:, and |, | and | or |/)?)+", words):
        return []
    return list(dict.fromkeys(known[m] for m in re.findall(rf"\b(?:{names})\b", words)))


def _listing(text: str, vocabulary: Vocabulary) -> list[str]:
    """Give the attributes that a text begins with, up to the first other word."""
    known = {**ATTRIBUTE_WORDS, **vocabulary.columns}
    names = "|".join(sorted(map(re.escape, known), key=len, reverse=True))
    found = re.match(rf"(?:the )?(?:{names})\b(?:(?:, and |, | and |/)(?:the )?(?:{names})\b)*", text)
    if not found or re.match(r"\s*[-']", text[found.end() :]):
        return []
    return _attributes(found[0], vocabulary)


_BALANCED = re.compile(
    r"(?<![\w-])(?:(?:balanced|matched) (?:by|for|over|across|on|in terms of|with respect to|with regard to|regarding) "
    r"|balanced (?=(?:age|sex|gender)\b))"
)
_BALANCED_BEFORE = re.compile(r"\b(age|sex|gender)-balanced\b")
_BOTH = r"(?:men|women|males|females)"
_EQUAL = re.compile(rf"\b(?:equal (?:numbers|shares|proportions|parts) of {_BOTH} and {_BOTH}|as many {_BOTH} as {_BOTH})\b")


def _balance(text: str, vocabulary: Vocabulary) -> Iterator[Claim]:
    if _HEDGED.search(text) or _OTHERS.search(text):
        return
    for found in _BALANCED.finditer(text):
        for attribute in _listing(text[found.end() :], vocabulary):
            yield Claim("balance", "", text[found.start() : found.end() + 20].strip(), about=attribute)
    for found in _BALANCED_BEFORE.finditer(text):
        yield Claim("balance", "", found[0], about=ATTRIBUTE_WORDS[found[1]])
    for found in _EQUAL.finditer(text):
        yield Claim("balance", "", found[0], about="sex")


_BE = r"(?:is|are|was|were)"
_TAIL = re.compile(
    rf"(?:years?(?: old| of age)?)?\s*(?:{_BE} )?(?:included|present|represented|enrolled|recruited|there|part of|in)?\s*"
    rf"(?:in|of|into|at all)?\s*(?:{SET})?"
)
_NOBODY = re.compile(
    rf"\b(?:no (?:{PEOPLE}|children|one)|no-one|nobody|none of the {PEOPLE}) (?:{_BE} )?(?:aged )?"
    r"(?P<op>under|below|younger than|over|above|older than) (?:the age of )?(?P<age>\d{1,3})\b"
)
_EVERYBODY = re.compile(
    rf"\b(?:all(?: of the)?(?: {PEOPLE})?|every (?:patient|person|participant)|everyone|everybody) {_BE} (?:aged )?"
    r"(?:(?P<op>over|under|at least|older than|younger than) )?(?P<age>\d{1,3})\b"
    r"(?P<or> (?:years )?(?:old )?(?:or|and) (?:older|over|above|more))?"
)
_NO_CHILDREN = re.compile(rf"\bno (?:children|minors)\b|\b(?:all(?: {PEOPLE})? (?:is|are|was|were) adults|only adults|adults only)\b")
_NO_SEX = re.compile(r"\bno (?P<no>women|men|females|males)\b|\b(?:only (?P<only>women|men)|(?P<alone>women|men) only)\b")


def _nobody(text: str, vocabulary: Vocabulary) -> Iterator[Claim]:
    if _OTHERS.search(text) or _HEDGED.search(text):
        return
    for found in _NOBODY.finditer(text):
        if _TAIL.fullmatch(_rest(text, found.end())):
            below = found["op"] in ("under", "below", "younger than")
            yield Claim("nobody", "", found[0], about="age", value=float(found["age"]), how="<" if below else ">")
    for found in _EVERYBODY.finditer(text):
        op = (
            ">="
            if found["or"] or found["op"] == "at least"
            else {"over": ">", "older than": ">", "under": "<", "younger than": "<"}.get(found["op"] or "")
        )
        if op and _TAIL.fullmatch(_rest(text, found.end())):
            against = {">=": "<", ">": "<=", "<": ">="}[op]
            yield Claim("nobody", "", found[0], about="age", value=float(found["age"]), how=against)
    for found in _NO_CHILDREN.finditer(text):
        if _TAIL.fullmatch(_rest(text, found.end())):
            yield Claim("nobody", "", found[0], about="age", value=18.0, how="<")
    for found in _NO_SEX.finditer(text):
        if _TAIL.fullmatch(_rest(text, found.end())):
            said = found["no"] or found["only"] or found["alone"]
            other = {"female": "male", "male": "female"}[SEX_WORDS[said]]
            yield Claim("nobody", "", found[0], about="sex", group=SEX_WORDS[said] if found["no"] else other)


_RECORDED = r"(?:recorded|documented|collected|available|known|self-reported|captured)"
_NOT_HERE = re.compile(r"\b(?:on paper|elsewhere|separately|notes?|by (?:the )?(?:hospital|clinic)|in the (?:hospital|clinic)|but)\b")


def _recorded(text: str, vocabulary: Vocabulary) -> Iterator[Claim]:
    known = {**ATTRIBUTE_WORDS, **vocabulary.columns}
    names = "|".join(sorted(map(re.escape, known), key=len, reverse=True))
    listed = rf"(?P<list>(?:{names})(?:(?:, and |, | and )(?:{names}))*)"
    denied = re.finditer(rf"\b{listed} (?:is|are|was|were|has been|have been) (?:not|never) {_RECORDED}\b", text)
    for found in denied:
        rest = _rest(text, found.end())
        if re.fullmatch(rf"(?:at all|anywhere|for (?:anyone|any {PEOPLE}))?\s*(?:in {SET})?", rest):
            for attribute in _attributes(found["list"], vocabulary):
                yield Claim("unrecorded", "", found[0], about=attribute)
    if _HEDGED.search(text) or _OTHERS.search(text) or _NOT_HERE.search(text):
        return
    for found in re.finditer(
        rf"\b{listed} (?:is|are|was|were|has been|have been) (?:fully |always |routinely |both |all )?{_RECORDED}\b", text
    ):
        everyone = re.match(
            rf"\s*(?:for|of|from) (?:all|every|everyone|everybody)(?: {PEOPLE}| of the {PEOPLE})?$", _rest(text, found.end())
        )
        for attribute in _attributes(found["list"], vocabulary):
            yield Claim(
                "recorded",
                "",
                found[0] + (f" {_rest(text, found.end())}" if everyone else ""),
                about=attribute,
                how="everyone" if everyone else "",
            )


_GAPLESS = re.compile(
    rf"\b(?:no (?:missing (?:values|data|entries)|values? {_BE} missing|gaps)|nothing is missing|without (?:missing values|gaps))\b"
)


def _gapless(text: str, vocabulary: Vocabulary) -> Iterator[Claim]:
    if _OTHERS.search(text):
        return
    for found in _GAPLESS.finditer(text):
        rest = _rest(text, found.end())
        if re.fullmatch(rf"(?:(?:in|from) )?(?:{SET})?", rest):
            yield Claim("gapless", "", found[0])
        elif re.match(r"(?:in|for|of) ", rest):
            for attribute in _attributes(rest.split(" ", 1)[1], vocabulary):
                yield Claim("gapless", "", f"{found[0]} {rest}", about=attribute)


def _missing(text: str, vocabulary: Vocabulary) -> Iterator[Claim]:
    if _OTHERS.search(text) or _HEDGED.search(text):
        return
    known = {**ATTRIBUTE_WORDS, **vocabulary.columns}
    names = "|".join(sorted(map(re.escape, known), key=len, reverse=True))
    about = ABOUT.format("how")
    for found in re.finditer(
        rf"\b(?P<name>{names}) (?:is|are|was|were) (?:missing|unknown) (?:for|in) {about} ?(?P<p>\d+(?:\.\d+)?)%", text
    ):
        if re.fullmatch(rf"(?:of )?(?:the |all )?(?:{PEOPLE})?", _rest(text, found.end())):
            yield Claim("missing", "", found[0], about=known[found["name"]], value=float(found["p"]), how=found["how"] or "")
    for found in re.finditer(rf"\b(?P<p>\d+(?:\.\d+)?)% (?:of (?:the |all )?{PEOPLE} )?(?:have|had) no (?P<name>{names}) recorded", text):
        yield Claim("missing", "", found[0], about=known[found["name"]], value=float(found["p"]), how="")


_HOLDS = r"(?:contains?|comprises?|holds?|includes?|consists? of|covers?|(?:has|have) a total of|totals?|a total of)"
_NOT_ALL = re.compile(r"(?:with|who|whose|aged|under|over|had|have|that|which|were|was|are|without|a|in whom|at)\b")


def _size(text: str, vocabulary: Vocabulary) -> Iterator[Claim]:
    if _OTHERS.search(text) or re.search(r"\b(?:not|no longer|never|would|could|will|until)\b", text):
        return
    seen: set[tuple[str, str]] = set()
    number, about = NUMBER.format("n"), ABOUT.format("how")
    whom = rf"{ABOUT.format('how2')} ?{NUMBER.format('m')} {PEOPLE}"
    both = rf"\b{about} ?{number} (?:\w+ )?{IMAGES}(?: taken)? (?:of|from)(?: the)?(?: eyes of)? {whom}\b"
    for found in re.finditer(both, text):
        if not _NOT_ALL.match(_rest(text, found.end())):
            seen |= {("images", found["n"]), ("people", found["m"])}
            yield Claim("size", "", found[0].strip(), about="images", value=float(_whole(found["n"])), how=found["how"] or "")
            yield Claim("size", "", found[0].strip(), about="people", value=float(_whole(found["m"])), how=found["how2"] or "")
    kind = "(?:(?:retinal|fundus|colour|unique|different|distinct|adult) )?"
    one = rf"\b{_HOLDS} (?:data (?:of|on|from) )?{about} ?{number} {kind}(?P<noun>{PEOPLE}|{IMAGES})\b"
    for found in re.finditer(one, text):
        what = "people" if re.fullmatch(PEOPLE, found["noun"]) else "images"
        if (what, found["n"]) not in seen and not _NOT_ALL.match(_rest(text, found.end())):
            yield Claim("size", "", found[0], about=what, value=float(_whole(found["n"])), how=found["how"] or "")


_TAKEN = re.compile(r"\b(?:collected|acquired|taken|photographed|imaged|captured|recorded|examined|gathered)\b")
_YEARS = re.compile(r"\b(?:(?:between|from|in|during) )?(?P<low>(?:19|20)\d\d)\s?(?:-|and|to|until|through)\s?(?P<high>(?:19|20)\d\d)\b")


def _years(text: str, vocabulary: Vocabulary) -> Iterator[Claim]:
    if _OTHERS.search(text) or _HEDGED.search(text) or not _TAKEN.search(text):
        return
    for found in _YEARS.finditer(text):
        if not re.search(IMAGES + "|data|archive|set|cohort", text):
            continue
        yield Claim("years", "", found[0], low=float(found["low"]), high=float(found["high"]))


_LINK = rf"(?:(?:of|the|all|our|{PEOPLE}|are|were|is|was|from|come|came|aged) )*"
_PART = rf"(?:years?)?\s*(?:of )?(?:(?:the|all|our|these) )?(?:{PEOPLE})?\s*(?:(?:in|of) {SET})?"


def _share(text: str, vocabulary: Vocabulary) -> Iterator[Claim]:
    if (
        _OTHERS.search(text)
        or _HEDGED.search(text)
        or re.search(rf"\bof (?:those|these|them|the (?:women|men))\b|\b{IMAGES}\b|\bwith\b|\bamong\b", text)
    ):
        return
    groups = {**{w: ("sex", g) for w, g in SEX_WORDS.items()}, **vocabulary.groups}
    names = "|".join(sorted(map(re.escape, groups), key=len, reverse=True))
    number = rf"{ABOUT.format('how')} ?(?P<p>\d+(?:\.\d+)?)%"
    for found in re.finditer(rf"\b{number} (?P<link>{_LINK})(?P<group>{names})\b", text):
        last = found["link"].split()[-1:]
        rest = re.split(r"\band\b|\bor\b", _rest(text, found.end()), maxsplit=1)[0].strip()
        if last != ["of"] and last != ["the"] and re.fullmatch(_PART, rest):
            yield _shared(found, groups)
    for found in re.finditer(
        rf"\b(?P<group>{names}) (?:make up|makes up|made up|account for|accounts for|comprise|constitute|are|were|is|was) {number}", text
    ):
        rest = re.split(r"\band\b|\bor\b", _rest(text, found.end()), maxsplit=1)[0].strip()
        if re.fullmatch(_PART, rest):
            yield _shared(found, groups)


def _shared(found: re.Match[str], groups: dict[str, tuple[str, str]]) -> Claim:
    attribute, group = groups[found["group"]]
    return Claim("share", "", found[0].strip(), about=attribute, group=group, value=float(found["p"]), how=found["how"] or "")


_NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_GROUPS = re.compile(
    rf"\b(?:from|at|in|across|by|with|on) (?P<n>\d{{1,4}}|{'|'.join(_NUMBER_WORDS)}) (?:different )?"
    r"(?P<noun>sites|hospitals|centres|centers|devices|cameras)\b"
)


def _number_of_groups(text: str, vocabulary: Vocabulary) -> Iterator[Claim]:
    if _OTHERS.search(text) or _HEDGED.search(text):
        return
    for found in _GROUPS.finditer(text):
        n = _NUMBER_WORDS.index(found["n"]) + 1 if found["n"] in _NUMBER_WORDS else int(found["n"])
        attribute = "device" if found["noun"] in ("devices", "cameras") else "site"
        if _TAKEN.search(text) or re.search(rf"\b(?:{IMAGES}|{PEOPLE}|data)\b", text):
            yield Claim("number of groups", "", found[0], about=attribute, value=float(n))


_RULES: Sequence[Callable[[str, Vocabulary], Iterator[Claim]]] = (
    _balance, _nobody, _recorded, _gapless, _missing, _size, _years, _share, _number_of_groups,
)  # fmt: skip


def read_claims(text: str, vocabulary: Vocabulary) -> list[Claim]:
    """Read what an answer claims.

    Args:
        text: people's words, in English.
        vocabulary: the names of groups and columns.
    """
    found: list[Claim] = []
    for sentence in sentences(text):
        plain = _plain(sentence)
        for rule in _RULES:
            found += [replace(claim, sentence=sentence) for claim in rule(plain, vocabulary)]
    return found


def small_counts(text: str, threshold: int) -> list[tuple[str, int]]:
    """Find sentences that count so few people that the policy would not show the number.

    Args:
        text: people's words.
        threshold: counts of 1 to this many are not shown.

    Returns:
        (sentence, count); sentences about other people than the set's are passed over.
    """
    found = []
    for sentence in sentences(text):
        plain = _plain(sentence)
        if _PANELS.search(plain):
            continue
        for match in re.finditer(rf"\b(?P<n>\d{{1,3}}) (?:(?:female|male|adult|black|white|asian|older|younger) )?{PEOPLE}\b", plain):
            before = plain[: match.start()].rstrip()
            if 1 <= int(match["n"]) <= threshold and not re.search(r"(?:fewer|less|more) than$|\bunder$|\bover$|\bto$|-$|\bleast$", before):
                found.append((sentence, int(match["n"])))
    return found

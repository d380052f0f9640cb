# ruff: noqa: E501
"""What an archive's names and people's answers may try to do to a page, a spreadsheet or a reader."""

from __future__ import annotations

# {run} is a line of JavaScript, {to} an address.
_SCRIPTS = """
<script>{run}</script>|<SCRIPT>{run}</SCRIPT>|<ScRiPt x=1>{run}</sCrIpT >|<script src={to}></script>|<script src="{to}" async></script>|<script type=module>{run}</script>
</script><script>{run}</script>|</style><script>{run}</script>|</title><script>{run}</script>|</textarea><script>{run}</script>|</table></main><script>{run}</script>|--><script>{run}</script>
]]><script>{run}</script>|<!--<script>{run}</script>|<![CDATA[<script>{run}</script>]]>|<scr<script>ipt>{run}</scr</script>ipt>|<script/xss>{run}</script>|<<script>{run}//<</script>|<noscript><p title="</noscript><script>{run}</script>">|"><script>{run}</script>|'><script>{run}</script>|`><script>{run}</script>|</bdi><script>{run}</script>|</caption><script>{run}</script>|</svg><script>{run}</script>|</dd></dl><script>{run}</script>
"""
_ELEMENTS = """
<img src=x onerror="{run}">|<img src=x onerror={run}>|<IMG SRC=x OnErRoR="{run}">|<img/src=x/onerror="{run}">|<img src="x` `"onerror="{run}">|<img src='{to}'>|<img srcset="{to} 1x">|<image href="{to}" onerror="{run}">|"><img src=x onerror="{run}">|'><img src=x onerror='{run}'>
<svg onload="{run}">|<svg/onload={run}>|<svg><script>{run}</script></svg>|<svg><script href="{to}"/></svg>|<svg><animate onbegin="{run}" attributeName=x dur=1s>|<svg><set onbegin="{run}" attributename=x>|<svg><use href="{to}#a"/></svg>|<svg><image href="{to}"/></svg>|<svg><foreignObject><img src=x onerror="{run}"></foreignObject></svg>|<svg><a href="javascript:{run}"><text>x</text></a></svg>|"><svg onload="{run}">|<svg><style><img src=x onerror="{run}"></style></svg>|<svg><title><img src=x onerror="{run}"></title></svg>
<math><mtext></table><img src=x onerror="{run}"></mtext></math>|<math href="javascript:{run}">x</math>|<body onload="{run}">|<body onpageshow="{run}">|<iframe src="javascript:{run}"></iframe>|<iframe srcdoc="<script>parent.ran=1</script>"></iframe>|<iframe onload="{run}"></iframe>|<iframe src="{to}"></iframe>|<object data="{to}"></object>|<object data="javascript:{run}"></object>|<embed src="{to}">|<embed src="javascript:{run}">|<video src="{to}" onerror="{run}"></video>|<video><source onerror="{run}"></video>|<audio src=x onerror="{run}">|<details open ontoggle="{run}">|<marquee onstart="{run}">x</marquee>|<input autofocus onfocus="{run}">|<select autofocus onfocus="{run}">|<textarea autofocus onfocus="{run}">|<keygen autofocus onfocus="{run}">|<a autofocus tabindex=1 onfocus="{run}">x</a>|<div style="animation-name:x" onanimationstart="{run}">|<style>@keyframes x{}</style><b style="animation:x 1s" onanimationend="{run}">|<dialog open onclose="{run}">|<form action="{to}"><button autofocus>go</button></form>|<form><button formaction="javascript:{run}">go</button></form>|<isindex action="javascript:{run}">|<template><script>{run}</script></template>|<slot onslotchange="{run}">|<portal src="{to}">|<frameset onload="{run}">|<table background="{to}">|<td background="{to}">|<bgsound src="{to}">|<layer src="{to}">
<base href="{to}">|<link rel=stylesheet href="{to}">|<link rel=preload as=script href="{to}">|<link rel=dns-prefetch href="{to}">|<link rel=import href="{to}">|<meta http-equiv=refresh content="0;url={to}">|<meta http-equiv=refresh content="0;url=javascript:{run}">|<meta http-equiv="Content-Security-Policy" content="script-src *">|<meta charset=utf-7>|<plaintext>|<xmp>|<textarea>|<title>|<noembed>|<noframes>
"""
_ATTRIBUTES = """
" onmouseover="{run}|' onmouseover='{run}| onmouseover={run} |" autofocus onfocus="{run}" x="|" onload="{run}|" style="animation:x" onanimationstart="{run}|x" onerror="{run}" src="x|" href="javascript:{run}|"/><b onclick="{run}">x</b>|\\" onclick=\\"{run}|&quot; onclick=&quot;{run}|&#34; onclick=&#34;{run}|`onclick={run}|" accesskey="x" onclick="{run}|" contenteditable onblur="{run}|" formaction="javascript:{run}|" is="x-ran|" slot="x|" id="card|" class="skip
javascript:{run}|JaVaScRiPt:{run}|java\tscript:{run}|java&#09;script:{run}|&#106;avascript:{run}|\x01javascript:{run}| javascript:{run}|javascript://%0a{run}|javascript&colon;{run}|data:text/html,<script>{run}</script>|data:text/html;base64,PHNjcmlwdD5wYXJlbnQucmFuPTE8L3NjcmlwdD4=|vbscript:msgbox(1)|feed:javascript:{run}|view-source:{to}|blob:{to}|{to}|//127.0.0.1/x|file:///etc/passwd|\\\\host\\share
"""
_STYLES = """
</style><style>*{display:none}</style>|<style>*{display:none!important}</style>|<style>@import '{to}';</style>|"; background: url({to}); x: "|} * { display: none } x {|*/ body { display: none } /*|\\22 ; } body { display: none|<b style="position:fixed;inset:0;background:red">x</b>|<b style="background:url({to})">x</b>|expression({run})|-moz-binding:url({to})|@import url({to});|@font-face{src:url({to})}|body{background:url("{to}")}|"TITLE"|\\0000223b|\\A|#{x}|<div class="page" style="width:99999px">x</div>|<h1 style="font-size:9999px">x</h1>|<pre style="white-space:pre">x</pre>
"""
_TEMPLATES = """
{{ 7*7 }}|{{7*'7'}}|{% raw %}|{% endraw %}|{% include 'card.css' %}|{# x #}|{{ self }}|{{ ''.__class__.__mro__ }}|{{ config }}|{0.__class__}|{n}|{}|{|}|%s|%(n)s|%n|${7*7}|#{7*7}|<%= 7*7 %>|<?php echo 7*7 ?>|[[7*7]]|*{7*7}|@(7*7)|{{constructor.constructor('{run}')()}}|$(touch x)|`touch x`|; DROP TABLE cohort; --|' OR '1'='1|!!python/object/apply:os.system ["true"]|&anchor|*alias|- item|key: value|# comment|%YAML 1.2|---|...
"""
_FORMULAS = """
=1+1|=HYPERLINK("{to}")|=HYPERLINK("{to}","click")|=WEBSERVICE("{to}")|=IMPORTXML("{to}","//a")|@SUM(1+1)*cmd|=DDE("cmd";"/C calc";"x")|\t=1+1|\r=1+1|＝1+1|＋1+1|＠SUM(1)|%0A=1+1|;=1+1|"=1+1"|=1+1","=2+2|=IMAGE("{to}")
"""
_ENTITIES = """
&lt;script&gt;{run}&lt;/script&gt;|&#60;script&#62;{run}&#60;/script&#62;|&#x3c;script&#x3e;{run}|&amp;lt;script&amp;gt;|&lt|&#0;|&#xD800;|&#x202e;abc|&nbsp;&nbsp;|&zwj;|%3Cscript%3E{run}%3C/script%3E|\\u003cscript\\u003e{run}|\\x3cscript\\x3e{run}|+ADw-script+AD4-{run}+ADw-/script+AD4-|＜script＞{run}＜/script＞|‹script›{run}‹/script›|&Tab;|&NewLine;|<!DOCTYPE html>|<?xml version="1.0"?>|<!ENTITY x SYSTEM "{to}">|<![endif]-->|<!--|-->|<!|</|<|>|&|"|'|\\|/|`|\\u0000|null|undefined|NaN|true|None|__proto__|constructor|toString
"""
_SIGNS = [
    "a\u2028b\u2029c", "\u2028=1+1", "\u202egnp.exe", "abc\u202edef\u202c", "\u2066\u2067\u2068abc", "\u200fabc\u200e", "\u061cabc", "\u202a\u202b\u202d" * 20, "א\u202eב", "ל" * 120,
    "مرحبا </script> مرحبا", "\u200b" * 50, "a\u200bb\u200cc\u200dd\ufeffe", "\u2060\u2061\u2062", "\u00ad" * 40 + "x", "\ufff9a\ufffab\ufffb", "\U000e0041\U000e0042", "x\x00y", "\x07\x1b[31mred", "\x7f\x80\x9f", "a\r\nb\tc\vd\fe", "\n\n\n", " ", "\u3000", "\u00a0" * 200,
    "Z" + "\u0300" * 300 + "algo", "x" * 5000, "W" * 160, "—" * 400, "m " * 2000, "/" * 500, "😀" * 200, "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 40, "﷽" * 40, "𒐫" * 60, "ไ" * 300, "漢" * 400, "\uffff", "\ue000\uf8ff", "ｎｕｌｌ", "İıŞş", "ﬁ",
]  # fmt: skip


def payloads(*, run: str = "window.ran=(window.ran||0)+1", to: str = "http://127.0.0.1:9/x") -> list[str]:
    """Give every payload once.

    Args:
        run: the JavaScript that a payload tries to run; without double quotes.
        to: the address that a payload tries to reach.
    """
    found: list[str] = []
    for family in (_SCRIPTS, _ELEMENTS, _ATTRIBUTES, _STYLES, _TEMPLATES, _FORMULAS, _ENTITIES):
        for line in family.strip("\n").split("\n"):
            found += [text.replace("{run}", run).replace("{to}", to) for text in line.split("|") if text.strip()]
    found += [f"<script\n>{run}</script\n>", "=cmd|' /C calc'!A0", "+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0", "a|b|c"]
    return list(dict.fromkeys([*found, *_SIGNS]))

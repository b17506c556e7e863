"""The frame of a report: one file, no script, nothing fetched; light, dark, narrow and on paper."""

from __future__ import annotations

from commonprior.monitor._html import EMPTY, Markup, element, join

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_CSS = """
:root{color-scheme:light dark;--paper:#fdfcfa;--card:#f5f2ec;--ink:#1d1b19;--muted:#67625b;--rule:#ddd7cd;
--accent:#00618f;--wash:#e6f0f5;--warn:#b34700;--warnwash:#fbeee3;
--s0:#0072b2;--s1:#d55e00;--s2:#009e73;--s3:#b3589a;--s4:#d99000;--s5:#4aa3df;--s6:#7a7a7a;--s7:#8c5a2b}
@media screen and (prefers-color-scheme:dark){:root{--paper:#161513;--card:#201e1b;--ink:#ece8e1;--muted:#a59e94;
--rule:#3b3732;--accent:#6cbde6;--wash:#17303c;--warn:#ff9a5c;--warnwash:#38230f;
--s0:#4ea9e0;--s1:#ff8a4a;--s2:#37cda0;--s3:#e79bcb;--s4:#f3bb4d;--s5:#9ad6ff;--s6:#b5b5b5;--s7:#d2a470}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","Noto Sans","Liberation Sans",Arial,sans-serif;overflow-wrap:break-word}
main,footer{max-width:62rem;margin:0 auto;padding:0 1.5rem}
h1,h2,.value,.large{font-family:Charter,"Bitstream Charter","Iowan Old Style",Georgia,"Noto Serif","Liberation Serif",
serif;font-weight:600;letter-spacing:-.01em}
header{padding-top:3rem}
.kicker{margin:0;color:var(--muted);font-size:.8125rem;letter-spacing:.08em;text-transform:uppercase}
h1{margin:.15em 0 .5em;font-size:clamp(1.9rem,5vw,2.75rem);line-height:1.12;overflow-wrap:anywhere}
h2{margin:0 0 .75rem;font-size:1.45rem;line-height:1.25}
h3{margin:1.75rem 0 .5rem;font-size:1rem;line-height:1.35}
p{margin:0 0 .85rem;max-width:46rem}
section{padding:1.75rem 0 1.25rem;border-top:1px solid var(--rule);margin-top:1.25rem}
.banner{margin:0 0 .6rem;padding:.55rem .9rem;max-width:none;background:var(--card);border-left:3px solid var(--muted)}
.banner.warning,.warning{background:var(--warnwash);border-left:3px solid var(--warn);padding:.55rem .9rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11.5rem,1fr));margin:1.5rem 0 1.75rem;
border-top:2px solid var(--ink);border-bottom:1px solid var(--rule)}
.tile{padding:.8rem 1rem .9rem 0}
.tile dt{color:var(--muted);font-size:.8125rem}
.tile dd{margin:0;font-size:.875rem;color:var(--muted);line-height:1.4}
.tile .value{font-size:2rem;line-height:1.2;color:var(--ink);font-variant-numeric:lining-nums tabular-nums}
.tile.lead .value{color:var(--accent)}
.summary{display:grid;grid-template-columns:6.5rem 1fr;gap:.6rem 1.25rem;margin:0 0 .5rem;font-size:1.0625rem}
.summary dt{font-weight:600;color:var(--accent)}
.summary dd{margin:0;max-width:46rem}
.summary dd p{margin:0 0 .55rem}
figure{margin:0;min-width:0}
figcaption,.caption{color:var(--muted);font-size:.875rem;line-height:1.5;max-width:46rem}
svg{display:block;width:100%;height:auto}
svg *{stroke-linejoin:round;stroke-linecap:butt}
svg text{font-family:inherit}
.panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:1.5rem 2.5rem}
.panels>figure{max-width:38rem}
.pair{display:grid;grid-template-columns:minmax(0,24rem) minmax(0,1fr);gap:0 2.5rem;align-items:start;
margin-bottom:1.5rem}
.pair>h3{grid-column:1/-1;margin-top:.75rem}
.side{display:grid;grid-template-columns:minmax(0,27rem) minmax(0,1fr);gap:1rem 2.5rem;align-items:center}
.legend{display:flex;flex-wrap:wrap;gap:.15rem 1.1rem;margin:.6rem 0 .4rem;padding:0;list-style:none;font-size:.875rem}
.swatch{display:inline-block;width:1.1em;height:.65em;margin-right:.45em;border-radius:1px;background:var(--c)}
.legend .swatch{height:0;border-top:3px solid var(--c);background:none;vertical-align:middle}
.legend .swatch.dashed{border-top-style:dashed}
.dot{display:inline-block;width:.6em;height:.6em;margin-right:.4em;background:var(--c)}
.dot.round{border-radius:50%}
.dot.turned{transform:rotate(45deg) scale(.85)}
.bar svg{height:1.5rem;margin:.5rem 0}
.scroll{overflow-x:auto;margin:0 0 .6rem}
table{width:100%;border-collapse:collapse;font-size:.9rem;line-height:1.35}
th,td{padding:.42rem .9rem .42rem 0;text-align:left;vertical-align:baseline;border-bottom:1px solid var(--rule);
font-weight:400}
thead th{color:var(--muted);font-size:.8125rem;border-bottom:1px solid var(--ink);vertical-align:bottom}
tfoot th,tfoot td{font-weight:600;border-bottom:0}
th:last-child,td:last-child{padding-right:0}
.number{text-align:right;white-space:nowrap;font-variant-numeric:lining-nums tabular-nums}
thead .number{white-space:normal}
tbody th{min-width:9rem}
tr.reference th,tr.reference td{font-weight:600;color:var(--accent)}
.between{display:block;color:var(--muted);font-weight:400;font-size:.8125rem}
.quiet{color:var(--muted);font-weight:400}
.tag{display:inline-block;padding:0 .4em;border-radius:.6em;background:var(--ink);color:var(--paper);font-size:.72rem;
font-weight:600;line-height:1.5}
.verdict{margin-right:.5em;color:var(--muted);font-weight:400;font-size:.8125rem}
.verdict.better{color:var(--warn);font-weight:600}
sup{font-size:.7em;line-height:0}
.large{font-size:1.5rem;line-height:1.3;margin-bottom:.4rem}
.gauge{height:.5rem;max-width:27rem;margin:.35rem 0;background:var(--rule)}
.gauge span{display:block;height:100%;background:var(--accent)}
.hashes{display:grid;grid-template-columns:9rem 1fr;gap:.5rem 1.25rem;margin:0 0 1rem}
.hashes dt{color:var(--muted)}
.hashes dd{margin:0;min-width:0}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;font-size:.85em}
.hashes code{overflow-wrap:anywhere}
.command{display:inline-block;padding:.35rem .6rem;background:var(--card)}
.roster{columns:11rem;margin:0;padding-left:1.75rem;font-size:.9rem}
.roster li{overflow-wrap:anywhere;break-inside:avoid}
details{margin:.5rem 0 1rem}
summary{cursor:pointer;font-weight:600;color:var(--accent)}
details>:not(summary){margin-top:.75rem}
pre{margin:0;padding:1rem;overflow-x:auto;background:var(--card);line-height:1.5;white-space:pre-wrap;
overflow-wrap:anywhere}
a{color:var(--accent)}
footer{padding-top:1rem;padding-bottom:3rem;color:var(--muted);font-size:.8125rem}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
@media(max-width:52rem){.pair,.side{grid-template-columns:minmax(0,1fr)}}
@media(max-width:36rem){main,footer{padding-left:1rem;padding-right:1rem}header{padding-top:1.5rem}
.summary,.hashes{grid-template-columns:1fr;gap:.1rem}.summary dd,.hashes dd{margin-bottom:.75rem}
.verdict{display:block;margin:0;white-space:normal}
.tiles{grid-template-columns:1fr 1fr}.tile .value{font-size:1.6rem}body{font-size:15px}
table{font-size:.85rem}th,td{padding-right:.6rem}tbody th{min-width:6.5rem}}
@media print{@page{margin:15mm 14mm}html{font-size:12px}body{font-size:12px;background:#fff}
main,footer{max-width:none;padding:0}
header{padding-top:0}section{margin-top:.75rem;padding-top:1rem}h2,h3{break-after:avoid}
figure,table,.tiles,.summary dd,.bar{break-inside:avoid}.scroll{overflow:visible}
.pair{grid-template-columns:minmax(0,21rem) minmax(0,1fr);break-inside:avoid}th,td{padding-right:.6rem}
.side{grid-template-columns:minmax(0,24rem) minmax(0,1fr)}
.panels{grid-template-columns:1fr 1fr;gap:1rem 2rem}tbody th{min-width:0}
details::details-content{content-visibility:visible;block-size:auto}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
""".strip()


def page(title: str, header: Markup, sections: dict[str, Markup], footer: str) -> bytes:
    """Return the whole document as UTF-8. Empty sections are left out."""
    blocks = [
        element("section", {"id": heading.lower().replace(" ", "-")}, element("h2", None, heading), "\n", block)
        for heading, block in sections.items() if block != EMPTY
    ]  # fmt: skip
    head = element(
        "head", None, element("meta", {"charset": "utf-8"}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY}),
        element("title", None, f"{title} · commonprior"), element("style", None, Markup(_CSS)),
    )  # fmt: skip
    body = element("body", None, element("main", None, header, *blocks), "\n", element("footer", None, footer))
    document = join(Markup("<!DOCTYPE html>\n"), element("html", {"lang": "en"}, "\n", head, "\n", body), "\n")
    return document.encode()


def tile(name: str, value: str, below: str, lead: bool = False) -> Markup:
    """Return one figure of the strip under the title."""
    parts = [element("dd", {"class": "value"}, value), element("dd", None, below)]
    return element("div", {"class": "tile lead" if lead else "tile"}, element("dt", None, name), *parts)


def banner(text: str, is_warning: bool = False) -> Markup:
    """Return what everyone must have read before the figures."""
    return element("p", {"class": "banner warning" if is_warning else "banner", "role": "note"}, text)

"""A real browser for the pages that a report writes: hostile text, and what is asked of a page's look."""

from pathlib import Path
from typing import Any

SIZES = [1280, 390]
SCHEMES = ["light", "dark"]

HOSTILE = (
    '<script>window.ran=1</script><img src=x onerror="window.ran=2">"\'><svg onload=window.ran=3>'
    "</title></script><script>window.ran=4</script><a href='javascript:window.ran=5'>x</a>"
    '=HYPERLINK("http://evil.example/","x") {{ 7*7 }} {% raw %} ${7*7} --> ]]> \u2028 \u202egpj.exe\u200b &amp; \x07 '
    "</textarea><style>*{display:none}</style><base href=http://evil.example/>"
    "<iframe srcdoc='<script>parent.ran=6</script>'>"
)


def settle(page: Any, path: Path) -> None:
    """Open the page with every picture loaded."""
    page.goto(path.as_uri())
    page.evaluate(
        """async () => {
            const images = [...document.images];
            images.forEach(i => { i.loading = "eager"; });
            await Promise.all(images.map(i => i.decode()));
        }"""
    )


def too_wide(page: Any) -> list[str]:
    """Elements that leave the window, but for what is hidden, drawn, or scrolls by itself."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("main *, header *, footer *")]
            .filter(e => !e.closest(".hidden, svg, .study") && !e.parentElement.closest(".scroll-x"))
            .filter(e => { const r = e.getBoundingClientRect(); return r.right > innerWidth + 1 || r.left < -1; })
            .map(e => e.outerHTML.slice(0, 120))"""
    )
    return found


CONTRAST = """() => {
    // WCAG 2: 4.5 to 1 for text, the background being every translucent layer over the page's own.
    const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const over = colours => {
        paint.clearRect(0, 0, 1, 1);
        colours.forEach(c => { paint.fillStyle = c; paint.fillRect(0, 0, 1, 1); });
        return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = rgb => {
        const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const worst = [];
    let seen = 0;
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim()) continue;
        if (element.closest(".hidden, .skip, noscript, option, button:disabled")) continue;
        if (!element.checkVisibility({ visibilityProperty: true })) continue;
        const layers = [];
        for (let e = element; e; e = e.parentElement) layers.unshift(getComputedStyle(e).backgroundColor);
        const ground = over(layers), ink = over([...layers, getComputedStyle(element).color]);
        const [a, b] = [light(ground), light(ink)].sort((x, y) => y - x);
        seen += 1;
        if ((a + 0.05) / (b + 0.05) < 4.5) worst.push([walker.currentNode.data.trim(), (a + 0.05) / (b + 0.05)]);
    }
    return { seen, worst };
}"""

// The texts of the page whose contrast with what is behind them is below WCAG's AA: 4.5 to 1, or 3 to 1 when large.
(() => {
  const channels = (color) => color.match(/[\d.]+/g).map(Number);
  const luminance = (color) => {
    const [red, green, blue] = channels(color).slice(0, 3).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (!color.endsWith(", 0)")) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const seen = new Set();
  for (const element of document.body.querySelectorAll("*")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!hasText || !element.checkVisibility() || ["STYLE", "SCRIPT"].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const [ink, paper] = [element instanceof SVGElement ? style.fill : style.color, behind(element)];
    const [one, other] = [luminance(ink), luminance(paper)].sort((first, second) => second - first);
    const ratio = (one + 0.05) / (other + 0.05);
    const needed = parseFloat(style.fontSize) >= 24 ? 3 : 4.5;
    if (ratio < needed) seen.add(`${element.tagName} ${element.className} ${ink} on ${paper}: ${ratio.toFixed(2)}`);
  }
  return [...seen].join("\n");
})()

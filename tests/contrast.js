// WCAG 2 contrast by what the browser paints: `check` puts into `found` what has less than it must.
const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
const context = canvas.getContext("2d", { willReadFrequently: true });
const paint = (color) => {
  context.clearRect(0, 0, 1, 1);
  context.fillStyle = color;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data];
};
const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
  .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
  .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
const ground = (node) => {
  for (; node; node = node.parentElement) {
    const color = paint(getComputedStyle(node).backgroundColor);
    if (color[3] === 255) return color;
  }
  return [255, 255, 255, 255];
};
const found = [];
const check = (node, color, least, name) => {
  const [a, b] = [light(paint(color)), light(ground(node))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < least) found.push(`${name}: ${ratio.toFixed(2)}`);
};
for (const node of document.querySelectorAll("body *")) {
  const text = [...node.childNodes].filter((child) => child.nodeType === 3)
    .map((child) => child.textContent.trim()).join("");
  if (!text || !node.checkVisibility() || node.closest("script, style, .unseen")) continue;
  const style = getComputedStyle(node);
  check(node, node.tagName === "text" ? style.fill : style.color, 4.5, text);
}

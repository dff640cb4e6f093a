// A line and the values of all curves at the step under the pointer.
for (const figure of document.querySelectorAll("figure")) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  const svg = figure.querySelector("svg"), cross = figure.querySelector(".cross"), box = figure.querySelector("output");
  const nearest = (points, step) => points.reduce((a, b) => (Math.abs(b[0] - step) < Math.abs(a[0] - step) ? b : a));
  const hide = () => { box.style.display = "none"; cross.setAttribute("x1", -9); cross.setAttribute("x2", -9); };
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("pointermove", (event) => {
    const area = svg.getBoundingClientRect();
    const share = (event.clientX - area.left) / area.width;
    const along = Math.min(1, Math.max(0, (share - data.left) / (data.right - data.left)));
    const curves = Object.entries(data.curves).filter(([, points]) => points.length);
    if (!curves.length) return;
    const span = data.high - data.low || 1;
    const step = nearest(curves.flatMap(([, points]) => points), data.low + along * span)[0];
    const at = data.high === data.low ? 0.5 : (step - data.low) / span;
    const x = (data.left + at * (data.right - data.left)) * svg.viewBox.baseVal.width;
    cross.setAttribute("x1", x);
    cross.setAttribute("x2", x);
    const lines = curves.map(([name, points]) => {
      const [where, value] = nearest(points, step);
      return `${name} ${value === null ? "not finite" : Number(value.toPrecision(5))}` + (where === step ? "" : ` (step ${where})`);
    });
    box.textContent = [`step ${step}`, ...lines].join("\n");
    box.style.display = "block";
    const left = (x / svg.viewBox.baseVal.width) * area.width;
    box.style.left = left > area.width / 2 ? `${left - box.offsetWidth - 10}px` : `${left + 10}px`;
  });
}

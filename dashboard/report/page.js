(() => {
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  const draw = (figure) => {
    if (figure.dataset.drawn) return;
    figure.dataset.drawn = "yes";
    const spec = JSON.parse(figure.querySelector("script").textContent);
    spec.layout.font = { ...spec.layout.font, color: ink() };
    const config = { displaylogo: false, displayModeBar: false };
    const plot = figure.querySelector(".plot");
    Plotly.newPlot(plot, spec.data, spec.layout, config).then(() => {
      new ResizeObserver(() => plot.offsetWidth && Plotly.Plots.resize(plot)).observe(plot);
    });
  };
  const figures = [...document.querySelectorAll(".figure")];
  const near = new IntersectionObserver(
    (entries) => entries.filter((e) => e.isIntersecting).forEach((e) => { near.unobserve(e.target); draw(e.target); }),
    { rootMargin: "600px" },
  );
  figures.forEach((figure) => near.observe(figure));
  window.addEventListener("beforeprint", () => figures.forEach(draw));
  scheme.addEventListener("change", () => {
    figures.filter((f) => f.dataset.drawn).forEach((f) => Plotly.relayout(f.querySelector(".plot"), { "font.color": ink() }));
  });
})();

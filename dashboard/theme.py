"""Colours and the look of figures: a palette that colour-blind readers tell apart, on light and on dark ground."""

from __future__ import annotations

import plotly.graph_objects as go

# Okabe and Ito's palette; its black is left out, since it vanishes on dark ground.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
GREY = "#8A8F98"
CONTROLS = {"upper": "#4C9F70", "lower": "#A0A4AB", "none": PALETTE[0]}
"""Colour of a row by what its source declares itself: upper control, lower control, a method."""

HEAT = "Cividis"
"""Sequential scale that is read alike with and without colour vision."""


PAGE_STYLE = """<style>
[data-testid="stMainBlockContainer"]{padding:3rem 2.5rem 3rem}
[data-testid="stSidebar"]{width:15rem !important;min-width:15rem}
[data-testid="stSidebarNav"]::before{content:"datafree-bench";display:block;font-weight:700;font-size:1.05rem;
padding:0 .5rem .6rem}
[data-testid="stMultiSelect"] [data-baseweb="tag"],[data-testid="stMultiSelect"] [data-baseweb="tag"] span{
max-width:none}
@media (max-width:640px){
[data-testid="stMainBlockContainer"]{padding:3.2rem 1rem 2rem}
[data-testid="stMainBlockContainer"] h1{font-size:2rem;padding-bottom:.4rem}
[data-testid="stMainBlockContainer"] h2{font-size:1.45rem}
[data-testid="stMainBlockContainer"] h3{font-size:1.2rem}
[data-testid="stHorizontalBlock"]{gap:.6rem}
[data-testid="stColumn"]:has([data-testid="stSelectbox"],[data-testid="stMultiSelect"],[data-testid="stMetric"],
[data-testid="stNumberInput"]){
min-width:calc(50% - .6rem);flex:1 1 calc(50% - .6rem)}
}
</style>"""
"""Less empty room than Streamlit leaves; on a phone two filters stand in a line."""


def styled(figure: go.Figure, height: int) -> go.Figure:
    """The common look: ``height`` in pixels, transparent ground (the page's shows through), room for long names."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 32, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        font={"size": 13},
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(automargin=True, gridcolor="rgba(128,128,128,0.2)", zeroline=False)
    figure.update_yaxes(automargin=True, gridcolor="rgba(128,128,128,0.2)", zeroline=False)
    return figure

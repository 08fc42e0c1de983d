"""The map report: one page to look at a run, and the same views as figures for papers.

Begin with these; the others are their parts.

    make      the report of a run or a sweep          automatic   the same at the end of a training
    collect   a run and its data, as plain arrays     figures     matplotlib figures of them
    charts    plotly figures of them                  page        all of it in one HTML file

>>> from pipeline.report import figures
>>> sorted(figures.FIGURES)[:3]
['components', 'confusion', 'curves']
"""

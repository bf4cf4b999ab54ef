"""A run: settings and facts become a plan of tasks, tasks become stages, stages become results and reports.

The only package that combines the others. `plan` is pure, `perform` does one task in any process, `engine`
does all of them in order, `close` writes what people read. It trains, scores and draws nothing itself.
"""

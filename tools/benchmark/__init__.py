"""The parts of tools/bench: rows.py says what is measured and what is to be reached, report.py and chart.py show it."""

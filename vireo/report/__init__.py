"""results/report.html: every result on one page that needs nothing but itself.

Made from result JSON files and what lies beside them; see page.py for the order of things.
"""

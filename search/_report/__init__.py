"""The pieces of report.html and front.csv."""

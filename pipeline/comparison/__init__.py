"""Every model side by side on one data set: cells that are kept, tables, tests of significance, a page."""

"""From a study's results.csv to statistics, tables, figures and verdicts; no JAX, no training.

statistics  means over tasks and then seeds, with notes on what is left out
tables      the table printed at the end of a sweep, plain and markdown
figures/    one file a figure; its file name registers it
claims      verdicts on the paper's claims, by stated criteria
report      all of it for one study folder
"""

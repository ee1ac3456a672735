"""From a study's results.csv to statistics, tables, figures and verdicts; no JAX, no training.

statistics  what is averaged over what (tasks first, then seeds), and what is left out and said
tables      the table printed at the end of a sweep, plain and markdown
figures/    one file a figure; its file name registers it
claims      which of the paper's claims hold, by stated criteria
report      all of it for one study folder
"""

"""From a study's results.csv to statistics, tables, figures and verdicts; no JAX, no training.

statistics  means over tasks, with intervals and notes on what is left out
resampling  the scheme behind every interval
criteria    margins, tests and verdicts
tables      the table printed at the end of a sweep, plain and markdown
figures/    one file a figure; its file name registers it
claims      verdicts on the paper's claims, by stated criteria
saturation  the prompt length beyond which nothing more is gained
report      all of it for one study folder
"""

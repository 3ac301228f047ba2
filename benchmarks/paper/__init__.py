"""The simulation studies of Li and Yang's paper on score-matching representatives, run again beside what it printed."""

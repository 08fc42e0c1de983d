"""Published results as data: what the tables of the benchmark are compared with.

Sources: SS18 Braga & Bassani, IJCNN 2018, and its released result files (github hfbassani/pbml); ALT19 Braga &
Bassani, IJCNN 2019, figures digitised (± .005; SS-SOM ± .015). Columns of fractions: 1, 5, 10, 25, 50, 75, 100 %.
"""

from __future__ import annotations

FRACTIONS = (1, 5, 10, 25, 50, 75, 100)
TABLES = ("breast", "diabetes", "glass", "liver", "pendigits", "shape", "vowel")
Column = dict[tuple[str, int], float]


def _column(rows: str) -> Column:
    """(table, fraction) → value, from lines "fraction: seven values in the order of TABLES"."""
    column: Column = {}
    for line in rows.strip().splitlines():
        fraction, values = line.split(":")
        for table, value in zip(TABLES, values.split(), strict=True):
            if value != "-":
                column[table, int(fraction)] = float(value)
    return column


# ALT19, best of 500 sets on the test rows of each fold
ALTSSSOM_ORACLE = _column("""
1: .764 .710 .424 .650 .864 .248 .234
5: .786 .718 .588 .669 .942 .492 .396
10: .794 .729 .621 .680 .959 .644 .484
25: .794 .732 .694 .707 .978 .824 .645
50: .816 .732 .721 .701 .986 .894 .797
75: .827 .737 .743 .734 .988 .919 .874
100: .829 .743 .748 .734 .989 .935 .896
""")

# Released SS-SOM runs, best of 500 sets on the test rows of each fold
SSSOM_ORACLE = _column("""
1: .695 .720 .452 .636 .758 .205 .235
5: .785 .727 .524 .670 .790 .563 .310
10: .798 .732 .590 .682 .836 .685 .352
25: .801 .745 .617 .692 .884 .817 .471
50: .815 .756 .651 .714 .920 .862 .545
75: .820 .767 .687 .729 .940 .889 .617
100: .833 .766 .692 .731 .949 .902 .655
""")

# The same runs: the set that is best on the other eight folds
SSSOM_LOFO = _column("""
1: .574 .559 .324 .516 .678 .146 .126
5: .534 .541 .346 .490 .687 .433 .240
10: .737 .612 .419 .456 .744 .592 .287
25: .697 .661 .491 .506 .859 .670 .431
50: .761 .676 .556 .557 .887 .766 .520
75: .753 .728 .565 .601 .915 .810 .575
100: .761 .675 .595 .666 .940 .844 .621
""")

# A prototype of the rules at one fixed setting, nine folds (pendigits three): the sanity level
SANITY = {
    "sssom": _column("""
1: .655 .631 .266 .509 .712 .225 .172
5: .641 .625 .383 .510 .764 .437 .312
10: .618 .599 .472 .526 .856 .560 .391
25: .556 .638 .561 .541 - .746 .542
50: .603 .633 .559 .567 - .809 .646
75: .646 .677 .598 .615 - .840 .760
100: .692 .674 .589 .620 .971 .871 .818
"""),
    "altsssom": _column("""
1: .662 .575 .262 .546 .663 .221 .171
5: .604 .625 .424 .528 .836 .423 .279
10: .670 .608 .467 .558 .870 .558 .366
25: .628 .652 .593 .554 - .750 .534
50: .680 .667 .587 .614 - .800 .684
75: .665 .680 .604 .592 - .840 .775
100: .727 .679 .647 .618 .971 .869 .828
"""),
}

# ALT19: LARFDSSOM without labels, best of 500 sets, one-to-one matching over the whole table
LARFDSSOM_CLUSTERING = dict(zip(TABLES, (0.763, 0.727, 0.575, 0.580, 0.737, 0.719, 0.317), strict=True))

# Correct label propagation and spreading, best of only ten sets: lower bounds
LABEL_PROPAGATION_ORACLE_10 = _column("""
1: .710 .652 .343 .535 - .219 .171
5: .753 .658 .424 .470 - .419 .339
100: .776 .746 .642 .665 - .907 .912
""")
LABEL_SPREADING_ORACLE_10 = _column("""
1: .702 .682 .304 .536 - .225 .191
5: .754 .694 .436 .499 - .427 .378
100: .783 .738 .595 .647 - .907 .874
""")

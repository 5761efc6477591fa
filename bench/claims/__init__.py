"""Claims held against records: what is supported, what is refuted, and on which condition."""

from bench.claims.judge import flips, judge, judge_all, judge_on, on_terms, same_pairs
from bench.claims.verdict import ANSWERS, Cut, Elsewhere, Pair, PartAnswer, Verdict

__all__ = ["ANSWERS", "Cut", "Elsewhere", "Pair", "PartAnswer", "Verdict", "flips", "judge", "judge_all", "judge_on",
           "on_terms", "same_pairs"]

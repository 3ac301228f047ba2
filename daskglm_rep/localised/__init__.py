"""Data that may not move: sites that answer by their own rules, a coordinator that asks, files between them.

    site = Site("hospital.parquet", "rules.toml", name="A", ledger="ledger")     # at the hospital
    coordinator = Coordinator("died ~ age + C(ward)", "binomial")                # at the analyst
    question = coordinator.question()                                            # a file: question.write(path)
    coordinator.receive([site.answer(question), ...])                            # until question() is None
    coordinator.results_.summary()

What the rules promise, of each answer by itself and of all answers to one site's questions: every sum is over at least
`least_rows` rows, no row makes up more than `most_share` of it, and no two answers differ by fewer rows. What nothing
here can promise:

- Combinations of one answer's numbers are held to `most_share` (no row has a leverage above it), not to `least_rows`:
  two or three that alone tell columns apart, or carry a part of an information, may be summed. So may rows by which
  two informations differ where their scores do not. A smaller `most_share` refuses more.
- Combinations of three and more answers are held by the budget alone (`most_questions`, `numbers_per_value`): who may
  ask for as many numbers as there are values can solve for them. Keep the budget small.
- The table's columns are the site's choice: two that differ in few rows, a copy or a complement of a response, or
  one that marks a patient make differences that the rules see only where they meet in one question. Give a study
  the columns that it needs and no others.
- A refusal says something too: each is counted as a question.
- Files are not signed: who can put a file into the study's folder can speak for a site.
- An analyst and a member of the site together know more than the answers: whoever knows all rows of a sum but one
  learns that one. Where that is feared, noise (`Rules(epsilon=...)`) is the only help.
- Sums over few rows say much about them. A site of 30 patients should not take part, whatever the rules let it do.
- Several sites' sums are seen by the coordinator one by one. What only the total may show needs secure summation.
- The rows must be the patients: a patient with ten rows is not protected by `least_rows=10`.
- Rare values in free text, as levels or in column names, are the site's to remove.
- Two ledgers are two memories: a site that forgets what it answered can be asked the difference.
"""

from daskglm_rep.localised.coordinator import Coordinator
from daskglm_rep.localised.exchange import Study, Workers
from daskglm_rep.localised.messages import Message
from daskglm_rep.localised.rules import Refused, Rules
from daskglm_rep.localised.site import Site

__all__ = ["Coordinator", "Message", "Refused", "Rules", "Site", "Study", "Workers"]

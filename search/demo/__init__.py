"""The demo world: a tiny multilingual model, its data and a recipe, written as ordinary files.

Six languages, ten small general tasks, harmful how-to prompts that must be refused, and benign look-alikes
that must not be. `search.demo.world.write_world` writes everything into a folder; from there on the demo is
a recipe like any user's. `python -m search.demo.pretrain` makes the committed base model again.

What this world shows, and what it does not:

* **The trade-off is built in, not found.** The base is pretrained with two deliberate flaws (it answers in
  English too often, and it refuses now and then), so that fine-tuning is a small shift and a merge moves
  smoothly. Findings of papers about merging, mixing or languages can be neither confirmed nor claimed here.
* **No real safety.** A harmful prompt is a verb and an object in a template; its answer carries no content.
* **The splits are by pair and by item**, the same in every language, so nothing that is scored was trained
  on by an expert. Dates, counts, lists and all how-to pairs that are scored are absent from pretraining as
  well. Numbers, countries, currencies, days, months and sums are closed lists: the base has seen them all,
  so there a score measures *retention* (is what the base knows still there, in the right language?), not
  generalisation.
* **Mixing data does better than merging on general and safety together.** With the same training steps, half general
  and half safety data gave 82.9 / 91.0 on the report split, where the linear merge of equal general score had 66.6
  safety; the merge refused fewer look-alikes (2 against 10 %). One seed; the settings were chosen on the search split.
* **One base.** The spread over base seeds is not part of any standard error.
"""

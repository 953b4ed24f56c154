"""Judges: models behind an OpenAI-compatible endpoint that label answers. What `judge_harm` and `judge_winrate` ask."""

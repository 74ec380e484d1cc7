"""Remember what this command has published, so that whatever ends it afterwards is not said to have published nothing."""

NOTHING = "nothing was published"

outcome = NOTHING  # what to say of it, within a sentence


def note(text: str) -> None:
    """Keep what is to be said from here on: where the results are."""
    global outcome
    outcome = text

"""The answer of one minute: what a check and a status say of a verdict. Pure."""

from collections.abc import Iterator

from noisefloor.contract.delivery import Announcement, Loss, Reasons
from noisefloor.gate.markdown import escaped, fenced
from noisefloor.gate.summary import SHA_LENGTH, TITLES, others

SUMMARY_LENGTH = 65_535  # GitHub's limit for a check's summary, in characters
DESCRIPTION_LENGTH = 140  # GitHub's limit for a commit status; GitLab takes 255


def title(announcement: Announcement, reasons: Reasons) -> str:
    """A line: the verdict, and how much the worst series lost."""
    worst = next((loss for loss in reasons.losses if loss.verdict is announcement.verdict), None)
    said = TITLES[announcement.verdict]
    return f"{said}: {amount}" if worst is not None and (amount := _amount(worst)) else said


def description(announcement: Announcement, reasons: Reasons) -> str:
    """The same with the reason, within what a commit status takes."""
    said = f"{title(announcement, reasons)}. {announcement.message}"
    return _cut(" ".join(said.split()), DESCRIPTION_LENGTH)


def markdown(announcement: Announcement, reasons: Reasons, job_url: str | None) -> str:
    """The check's summary: worst series, dB, layer, cause, baseline used, repro command."""
    link = f"[The job]({job_url})" if job_url is not None else None
    rest = others(reasons.more) if reasons.more else None
    parts = [f"**{announcement.verdict}**: {escaped(announcement.message)}", *_losses(reasons), rest, link]
    text, room = "", SUMMARY_LENGTH - len(link or "") - 2
    for part in filter(None, parts):
        if part is not link and len(text) + len(part) + 2 > room:
            continue  # whole parts are left out: half of a fence would swallow the rest
        text += f"{part}\n\n"
    return _cut(text.strip(), SUMMARY_LENGTH)


def _losses(reasons: Reasons) -> Iterator[str]:
    for loss in reasons.losses:
        lines = [f"### {escaped(loss.where)}", "", f"- **{loss.verdict}**: {escaped(loss.message)}"]
        if amount := _amount(loss):
            lines.append(f"- lost: {amount}")
        if loss.layer is not None:
            lines.append(f"- layer: {escaped(loss.layer)}")
        if loss.cause is not None:
            lines.append(f"- cause: {escaped(loss.cause)}")
        if loss.let_through is not None:
            lines.append(f"- let through: {escaped(loss.let_through)}")
        lines.append(f"- baseline: {_baseline(loss)}")
        if loss.repro is not None and (block := fenced(loss.repro)) is not None:
            lines += ["", "Measure it again:", block]
        yield "\n".join(lines)


def _amount(loss: Loss) -> str:
    if loss.creep_db is not None:
        return f"{loss.creep_db:.3f} dB since the release"
    if loss.drop_db is not None and loss.drop_db > 0:
        return f"{loss.drop_db:.3f} dB against the baseline"
    value = loss.figure.value if loss.figure is not None else None
    if loss.floor_db is not None and value is not None and value < loss.floor_db:
        return f"{loss.floor_db - value:.3f} dB below the floor"
    return ""


def _baseline(loss: Loss) -> str:
    baseline = loss.baseline
    if baseline is None:
        return "none" if loss.floor_db is None else f"none; the floor is {loss.floor_db:.3f} dB"
    at = f" at {baseline.sha[:SHA_LENGTH]}" if baseline.sha is not None else ""
    when = f", {baseline.measured_at:%Y-%m-%d %H:%M} UTC" if baseline.measured_at is not None else ""
    return f"{baseline.figure} dB{at}{when}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"

"""Crontabs as Kubeflow Pipelines reads them, and when they fire.

Its scheduler (robfig/cron 1.2) wants the seconds first. A five-field crontab passes there too, and means something
else: `0 3 * * 1` would fire every hour of every day of January, three minutes past.
"""

import datetime
import re
from typing import NamedTuple

from attngan.errors import InputError


class Field(NamedTuple):
    """What a field of a cron expression may hold."""

    name: str
    first: int
    last: int
    names: tuple[str, ...] = ()


MONTHS = tuple("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split())
DAYS = tuple("SUN MON TUE WED THU FRI SAT".split())
WEEKDAYS = tuple("Sundays Mondays Tuesdays Wednesdays Thursdays Fridays Saturdays".split())
MONTH_NAMES = tuple("January February March April May June July August September October November December".split())
FIELDS = (
    Field("second", 0, 59),
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day of month", 1, 31),
    Field("month", 1, 12, MONTHS),
    Field("day of week", 0, 7, DAYS),  # 7 is Sunday in crontabs; the scheduler stops at 6
)
NAMED = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
YEARS = 5  # the scheduler looks no further


def six_fields(expression: str) -> str:
    """Return a crontab, six fields with the seconds first, or a name such as @daily in the scheduler's form.

    Raises:
        InputError: it says nothing that the scheduler understands, or never fires.
    """
    texts = NAMED.get(expression.strip().lower(), expression).split()
    if len(texts) == 5:
        texts.insert(0, "0")
    if len(texts) != len(FIELDS):
        names = ", ".join(NAMED)
        raise InputError(
            f"--cron {expression!r}: expected five fields (minute, hour, day of month, month, day of week), six "
            f"with the seconds first, or one of {names}; found {len(texts)}."
        )
    result = " ".join(_field(text, field, expression) for text, field in zip(texts, FIELDS, strict=True))
    if not next_times(result, datetime.datetime.now(datetime.UTC), count=1):
        raise InputError(f"--cron {expression!r}: never fires within {YEARS} years; check day and month.")
    return result


def next_times(cron: str, after: datetime.datetime, *, count: int) -> list[datetime.datetime]:
    """Return when the scheduler fires next, in the time zone of `after`.

    Args:
        cron: as the scheduler has it.
        after: a moment with the scheduler's time zone.
        count: how many times, less if there are no more within five years.
    """
    from cronsim import CronSim, CronSimError

    if len(cron.split()) == 5:  # made elsewhere: the scheduler lets the day of the week be left out, not the seconds
        cron += " *"
    limit = after + datetime.timedelta(days=366 * YEARS)
    times: list[datetime.datetime] = []
    try:
        for moment in CronSim(cron.replace("?", "*"), after):  # the scheduler takes one for the other
            if len(times) == count or moment > limit:
                break
            times.append(moment)
    except CronSimError:  # such as February 30, or what cronsim does not know
        return []
    return times


def in_words(cron: str, time_zone: str) -> str:
    """Return when a schedule fires as a person says it, such as "Mondays at 03:00 UTC"; what is rarer stays a crontab.

    Args:
        cron: as the scheduler has it.
        time_zone: the scheduler's, by name.
    """
    fields = [*cron.replace("?", "*").split(), "*"][:6]
    time, days = (_time(*fields[:3]), _days(*fields[3:])) if len(fields) == 6 else ("", "")
    if not (time and days and next_times(cron, datetime.datetime.now(datetime.UTC), count=1)):
        return f"cron {cron} {time_zone}"
    if not time.startswith("at "):
        return time if days == "every day" else f"{time}, {days} {time_zone}"
    return f"{days} {time} {time_zone}"


def _time(second: str, minute: str, hour: str) -> str:
    """Return the time of day in words, "" where there are none."""
    if second != "0":
        return ""
    if minute.isdecimal() and re.fullmatch(r"\d+(,\d+)*", hour):
        return f"at {_listed([f'{int(each):02}:{int(minute):02}' for each in hour.split(',')])}"
    if (minute, hour) == ("0", "*"):
        return "every hour"
    if (minute, hour) == ("*", "*"):
        return "every minute"
    for field, rest, size, name in ((minute, hour == "*", 60, "minutes"), (hour, minute == "0", 24, "hours")):
        every = re.fullmatch(r"\*/([1-9]\d*)", field)
        if every and rest and size % int(every[1]) == 0:
            return f"every {every[1]} {name}"
    return ""


def _days(day: str, month: str, weekday: str) -> str:
    """Return the days in words, "" where there are none."""
    if not all(re.fullmatch(r"\*|\d+(,\d+)*", text) for text in (day, weekday)):
        return ""
    match (day, month, weekday):
        case ("*", "*", "*"):
            return "every day"
        case ("*", "*", "1,2,3,4,5"):
            return "Mondays to Fridays"
        case ("*", "*", _):
            return _listed([WEEKDAYS[int(each) % 7] for each in weekday.split(",")])
        case (_, "*", "*"):
            return f"{'days' if ',' in day else 'day'} {_listed(day.split(','))} of every month"
        case (_, _, "*") if day.isdecimal() and month.isdecimal() and 1 <= int(month) <= 12:
            return f"every {MONTH_NAMES[int(month) - 1]} {day}"
    return ""


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _field(text: str, field: Field, expression: str) -> str:
    """Return one field in numbers; what begins with a star goes first, where cronsim looks for it."""
    items = [_item(item, field, expression) for item in text.split(",")]
    stars = [item for item in items if isinstance(item, str)]
    numbers = sorted({number for item in items if not isinstance(item, str) for number in item})
    return ",".join([*stars, *map(str, numbers)])


def _item(item: str, field: Field, expression: str) -> str | set[int]:
    """Return the values an item stands for; `*` and `*/n` stay, as they decide how the two day fields combine."""
    parts = re.fullmatch(r"(?P<from>\*|\?|\w+)(-(?P<to>\w+))?(/(?P<step>\d+))?", item)
    if parts is None or (parts["to"] and parts["from"] in "*?"):
        raise _refused(item, field, expression)
    step = int(parts["step"] or 1)
    if not 0 < step <= field.last:
        raise _refused(item, field, expression)
    if parts["from"] in "*?":
        return f"*/{step}" if step > 1 else "*"
    first = _number(parts["from"], item, field, expression)
    last = _number(parts["to"], item, field, expression) if parts["to"] else first
    if parts["to"] and last < first == 7:  # "sun-tue" written with 7
        first = 0
    if parts["to"] and field.names == DAYS and last == 0 < first:  # "fri-sun"
        last = 7
    if last < first:
        raise _refused(item, field, expression)
    if parts["step"] and not parts["to"]:  # from there to the end; Sunday, also as 7, begins a week
        first, last = (first % 7, 6) if field.names == DAYS else (first, field.last)
    values = range(first, last + 1, step)
    return {value % 7 for value in values} if field.names == DAYS else set(values)


def _number(text: str, item: str, field: Field, expression: str) -> int:
    if text.upper() in field.names:
        return field.names.index(text.upper()) + field.first
    if not re.fullmatch("[0-9]{1,2}", text) or not field.first <= int(text) <= field.last:
        raise _refused(item, field, expression)
    return int(text)


def _refused(item: str, field: Field, expression: str) -> InputError:
    names = f" or {field.names[0]} to {field.names[-1]}" if field.names else ""
    return InputError(
        f"--cron {expression!r}: {item!r} is no {field.name}; expected {field.first} to {field.last}{names}, a range "
        "such as 1-5, a list such as 1,15, or * with or without a step such as */2."
    )

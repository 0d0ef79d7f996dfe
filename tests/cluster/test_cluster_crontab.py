"""Crontabs in the scheduler's form, and when they fire."""

import datetime
import zoneinfo

import pytest

pytest.importorskip("cronsim")

from attngan.errors import InputError
from components.cluster import crontab

SUNDAY = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("0 3 * * 1", "0 0 3 * * 1"),
        ("30 0 3 * * 1", "30 0 3 * * 1"),
        ("*/15 9-17 * * MON-fri", "0 */15 9,10,11,12,13,14,15,16,17 * * 1,2,3,4,5"),
        ("0 0 * * 7", "0 0 0 * * 0"),
        ("0 0 * * 5-7", "0 0 0 * * 0,5,6"),
        ("0 0 * * fri-sun", "0 0 0 * * 0,5,6"),
        ("0 0 * * 7-2", "0 0 0 * * 0,1,2"),
        ("0 0 * * 1/2", "0 0 0 * * 1,3,5"),
        ("0 0 * * 7/2", "0 0 0 * * 0,2,4,6"),
        ("0 0 * * sun/2", "0 0 0 * * 0,2,4,6"),
        ("0 0 * * 7-7/2", "0 0 0 * * 0"),
        ("0 0 1,15 jan,JUL ?", "0 0 0 1,15 1,7 *"),
        ("5/20 * * * *", "0 5,25,45 * * * *"),
        ("0 0 3,*/2 * *", "0 0 0 */2,3 * *"),
        ("@daily", "0 0 0 * * *"),
        (" @Weekly ", "0 0 0 * * 0"),
        ("0 0 29 2 *", "0 0 0 29 2 *"),
    ],
)
def test_a_crontab_gets_its_seconds_and_its_days_in_numbers(given, made):
    assert crontab.six_fields(given) == made


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "expected five fields"),
        ("0 3 * *", "found 4"),
        ("0 3 * * 1 2 3", "found 7"),
        ("@every 1h", "found 2"),
        ("@reboot", "@hourly"),
        ("60 3 * * *", "'60' is no minute; expected 0 to 59"),
        ("0 24 * * *", "'24' is no hour"),
        ("0 3 0 * *", "'0' is no day of month"),
        ("0 3 L * *", "'L' is no day of month"),
        ("0 3 15W * *", "'15W' is no day of month"),
        ("0 3 * * 1#2", "'1#2' is no day of week; expected 0 to 7 or SUN to SAT"),
        ("0 3 * 13 *", "'13' is no month"),
        ("0 3 * * 8", "'8' is no day of week"),
        ("5-1 3 * * *", "'5-1' is no minute"),
        ("*/0 3 * * *", "'*/0' is no minute"),
        ("*/90 * * * *", "'*/90' is no minute"),
        ("*-5 * * * *", "'*-5' is no minute"),
        ("1,,2 3 * * *", "'' is no minute"),
        ("-1 3 * * *", "'-1' is no minute"),
        ("0 3 30 2 *", "never fires"),
    ],
)
def test_nonsense_is_refused_with_what_was_expected(given, said):
    with pytest.raises(InputError) as refused:
        crontab.six_fields(given)
    assert said in str(refused.value)


def fires(cron: str, after: datetime.datetime, count: int) -> list[str]:
    return [f"{moment:%m-%d %H:%M:%S}" for moment in crontab.next_times(cron, after, count=count)]


def test_a_weekly_schedule_fires_on_its_day():
    assert fires("0 0 3 * * 1", SUNDAY, 3) == ["03-02 03:00:00", "03-09 03:00:00", "03-16 03:00:00"]


def test_a_time_that_is_now_is_not_the_next():
    assert fires("0 0 0 * * *", SUNDAY, 1) == ["03-02 00:00:00"]


def test_two_limited_day_fields_fire_on_either_as_the_scheduler_has_it():
    assert fires("0 0 0 4 * 1", SUNDAY, 3) == ["03-02 00:00:00", "03-04 00:00:00", "03-09 00:00:00"]


def test_a_star_with_a_step_in_a_day_field_asks_for_both():
    assert fires("0 0 0 */2 * 1", SUNDAY, 2) == ["03-09 00:00:00", "03-23 00:00:00"]


def test_five_fields_made_elsewhere_are_read_as_the_scheduler_does():
    """Second 0, minute 3 of every hour of January 1."""
    assert fires("0 3 * 1 1", SUNDAY, 2) == ["01-01 00:03:00", "01-01 01:03:00"]


def test_what_cannot_be_read_never_fires():
    assert crontab.next_times("@every 1h", SUNDAY, count=1) == []


def test_a_time_that_the_clocks_skip_is_skipped():
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    before = datetime.datetime(2026, 3, 28, 12, tzinfo=berlin)  # clocks go from 2 to 3 on March 29
    assert fires("0 30 2 * * *", before, 1) == ["03-30 02:30:00"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("0 3 * * 1", "Mondays at 03:00 Asia/Tokyo"),
        ("30 3,15 * * 1,4,0", "Sundays, Mondays and Thursdays at 03:30 and 15:30 Asia/Tokyo"),
        ("0 6 * * mon-fri", "Mondays to Fridays at 06:00 Asia/Tokyo"),
        ("@weekly", "Sundays at 00:00 Asia/Tokyo"),
        ("@daily", "every day at 00:00 Asia/Tokyo"),
        ("@monthly", "day 1 of every month at 00:00 Asia/Tokyo"),
        ("0 2 1,15 * *", "days 1 and 15 of every month at 02:00 Asia/Tokyo"),
        ("@yearly", "every January 1 at 00:00 Asia/Tokyo"),
        ("@hourly", "every hour"),
        ("* * * * *", "every minute"),
        ("*/15 * * * *", "every 15 minutes"),
        ("0 */6 * * *", "every 6 hours"),
        ("*/15 * * * sat", "every 15 minutes, Saturdays Asia/Tokyo"),
        ("*/7 * * * *", "cron 0 */7 * * * * Asia/Tokyo"),  # seven do not make an hour
        ("30 0 3 * * 1", "cron 30 0 3 * * 1 Asia/Tokyo"),
        ("0 0 4 * 1", "cron 0 0 0 4 * 1 Asia/Tokyo"),  # either day
        ("0 0 */2 * *", "cron 0 0 0 */2 * * Asia/Tokyo"),
        ("0 0 1 1,7 *", "cron 0 0 0 1 1,7 * Asia/Tokyo"),
        ("0 0 * 6 *", "cron 0 0 0 * 6 * Asia/Tokyo"),
    ],
)
def test_a_crontab_is_said_in_words_where_there_are_some(given, said):
    assert crontab.in_words(crontab.six_fields(given), "Asia/Tokyo") == said


@pytest.mark.parametrize(
    ("made_elsewhere", "said"),
    [
        ("0 0 3 * *", "every day at 03:00 UTC"),  # five fields: without the day of the week
        ("0 0 3 ? * 1", "Mondays at 03:00 UTC"),
        ("@every 1h", "cron @every 1h UTC"),
        ("0 0 3 * * MON", "cron 0 0 3 * * MON UTC"),
        ("0 0 3 * * 99", "cron 0 0 3 * * 99 UTC"),
        ("0 99 3 * * 1", "cron 0 99 3 * * 1 UTC"),
        ("0 3 * 1 1", "cron 0 3 * 1 1 UTC"),
        ("", "cron  UTC"),
    ],
)
def test_a_crontab_made_elsewhere_is_said_as_the_scheduler_reads_it(made_elsewhere, said):
    assert crontab.in_words(made_elsewhere, "UTC") == said

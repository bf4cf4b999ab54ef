"""Who may ask: names of this computer, tokens, a bucket of requests an address."""

import pytest

from kdtf.errors import UserError
from kdtf.serve.guard import ADDRESSES, Guard, RateLimit
from kdtf.serve.settings import ServerSettings

TOKEN = "0123456789abcdef"
LOCAL = {"host": "127.0.0.1:8000"}


def status(guard, headers, path="/predict"):
    return guard.refusal("10.0.0.1", path, headers)[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000"])
def test_names_of_this_computer_come_in(host):
    assert status(Guard(ServerSettings()), {"host": host}) == 0


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::2]"])
def test_a_page_with_a_name_of_its_own_does_not(host):
    assert status(Guard(ServerSettings()), {"host": host}) == 421


@pytest.mark.parametrize(
    "authorization, expected",
    [
        (f"Bearer {TOKEN}", 0),
        (f"bearer  {TOKEN} ", 0),
        ("", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        (f"Bearer {TOKEN}f", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        ("Bearer \xe4\xf6", 401),
        ("Bearer ", 401),
    ],
)
def test_a_token_is_asked_for(authorization, expected):
    guard = Guard(ServerSettings(host="0.0.0.0", token=TOKEN))
    headers = {"host": "scanner.example", "authorization": authorization}
    assert status(guard, headers) == status(guard, headers, "/metrics") == expected
    assert status(guard, headers, "/health") == 0


def test_a_bucket_is_emptied_and_fills_again():
    now = [0.0]
    limit = RateLimit(2, lambda: now[0])  # 4 at once
    assert [limit.seconds_to_wait("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert limit.seconds_to_wait("b") == 0
    now[0] = 0.25
    assert limit.seconds_to_wait("a") == 0.25
    now[0] = 0.5
    assert [limit.seconds_to_wait("a") for _ in range(2)] == [0, 0.5]
    now[0] = 1000
    assert [limit.seconds_to_wait("a") == 0 for _ in range(5)] == [True] * 4 + [False]


def test_a_rate_below_one_lets_the_first_request_in():
    limit = RateLimit(0.1, lambda: 0.0)
    assert [limit.seconds_to_wait("a") for _ in range(2)] == [0, 10]


def test_no_rate_is_no_limit_and_addresses_are_forgotten():
    assert not any(RateLimit(0).seconds_to_wait("a") for _ in range(1000))
    limit = RateLimit(1)
    for i in range(ADDRESSES + 10):
        limit.seconds_to_wait(str(i))
    assert len(limit._buckets) == ADDRESSES


def test_guesses_of_a_token_are_limited_too():
    guard = Guard(ServerSettings(token=TOKEN, rate=1))
    headers = {**LOCAL, "authorization": "Bearer wrong"}
    assert [status(guard, headers) for _ in range(3)] == [401, 401, 429]
    assert guard.refusal("10.0.0.1", "/predict", headers)[2] == {"retry-after": "1"}


@pytest.mark.parametrize(
    "values, words",
    [
        ({"host": "0.0.0.0"}, "--host must be 127.0.0.1, or any other with a token. Got '0.0.0.0'."),
        ({"host": "::"}, "--host must be 127.0.0.1, or any other with a token. Got '::'."),
        ({"host": "example"}, "--host must be an IP address, 127.0.0.1 say. Got 'example'."),
        ({"token": "short"}, "The token must be at least 16 printable ASCII characters. Got '5 characters'."),
        ({"token": "0123456789 abcdef"}, "The token must be"),
        ({"token": "0123456789abcde\xe4"}, "The token must be"),
        ({"port": 65536}, "--port must be between 0 and 65535. Got 65536."),
        ({"max_mib": 0}, "--max-mib must be above 0, at most 1024. Got 0."),
        ({"rate": -1}, "--rate must be between 0 and"),
        ({"timeout": float("nan")}, "--timeout must be above 0, at most 3600. Got nan."),
        ({"workers": 0}, "--workers must be between 1 and 4096. Got 0."),
        ({"queue": 0}, "--queue must be"),
        ({"connections": 0}, "--connections must be"),
    ],
)
def test_settings_that_are_refused(values, words):
    with pytest.raises(UserError) as error:
        ServerSettings(**values)
    assert str(error.value).startswith(words) and "0123456789" not in str(error.value)


def test_settings_that_are_taken():
    assert ServerSettings().is_local and ServerSettings(host="127.0.0.2").is_local
    assert not ServerSettings(host="0.0.0.0", token=TOKEN).is_local
    assert ServerSettings(host="::1").is_local and ServerSettings(max_mib=0.5).max_bytes == 1 << 19

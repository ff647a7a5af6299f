"""Parts of an answer beside its page: headers, cookies, and an answer without a body."""

from support import campaigns
from support.consoles import Browser

HTTPS = {"X-Forwarded-Proto": "https"}


async def test_each_answer_keeps_a_browser_from_guessing_its_type(browser: Browser) -> None:
    await browser.sign_in()
    campaign = await campaigns.put(browser.database, state="done")
    paths = ("/", "/none", f"/campaigns/{campaign}/people.csv", "/settings/audit.csv", "/healthz")
    for path in paths:
        for method in ("GET", "HEAD"):
            async with browser.session.request(method, browser.url + path) as answer:
                assert answer.status == (404 if path == "/none" else 200), (method, path)
                assert answer.headers["X-Content-Type-Options"] == "nosniff", path
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"], path
                assert answer.headers["Cache-Control"].startswith(("no-", "private")), path
                assert bool(await answer.read()) == (method == "GET"), path


async def test_cookies_of_https_are_of_this_host_alone(browser: Browser) -> None:
    """Another host of the domain can set a cookie, but none of such a name."""
    await browser.sign_in()
    (plain,) = [each for each in browser.session.cookie_jar if "session" in each.key]
    assert plain.key == "dingrelay_session"
    stolen = {"Cookie": f"{plain.key}={plain.value}", **HTTPS}
    assert await browser.status("/campaigns", **stolen) == 303
    secure = {"Cookie": f"__Host-{plain.key}={plain.value}", **HTTPS}
    assert await browser.status("/campaigns", **secure) == 200
    form = {"language": "zh", "back": "/"}
    sent = {**HTTPS, "Sec-Fetch-Site": "same-origin"}
    url = f"{browser.url}/language"
    async with browser.session.post(url, data=form, headers=sent, allow_redirects=False) as answer:
        (cookie,) = answer.headers.getall("Set-Cookie")
    assert cookie.startswith("__Host-dingrelay_language=zh;")
    assert ("Secure" in cookie, "Path=/;" in cookie, "Domain" in cookie) == (True, True, False)


async def test_a_department_that_is_no_number_is_none(browser: Browser) -> None:
    await browser.sign_in("wang", "write")
    draft = await campaigns.put(browser.database, state="draft", chunks=0)
    for number in ("--5", "-", "5" * 5_000, "٥", "-1,2"):
        assert await browser.status(f"/campaigns/{draft}/choose?open={number}") == 200, number
    form = (await browser.forms(f"/campaigns/{draft}/choose"))[f"/campaigns/{draft}/choose"]
    for version in ("9" * 5_000, "--1"):
        status = await browser.post(f"/campaigns/{draft}/choose", form | {"version": version})
        assert status in {409, 422}, version

package dashboard

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"broadside/engine/telemetry"
)

const secret = "the content of a file outside of RUNS"

// Nothing outside of the folder can be read, whatever is asked for and whatever links lie in it.
func TestNothingOutsideIsRead(t *testing.T) {
	outside := t.TempDir()
	other := begin(t, filepath.Join(outside, "run"), "secret: "+secret+"\n")
	other.append(telemetry.Event{Type: telemetry.TypeStart, Message: secret})
	other.end(1)
	write(t, filepath.Join(outside, "run/checkpoints/step-000000077.safetensors"), "x")
	write(t, filepath.Join(outside, "events.jsonl"), `{"type":"start","message":"`+secret+`"}`+"\n")
	write(t, filepath.Join(outside, "recipe.yaml"), "secret: "+secret+"\n")
	write(t, filepath.Join(outside, "summary.json"), `{"name":"`+secret+`"}`)
	write(t, filepath.Join(outside, "curvature.json"), `{"checkpoint":"`+secret+`"}`)
	dir := filepath.Join(t.TempDir(), "runs")
	begin(t, filepath.Join(dir, "plain"), "a: 1\n").end(1)
	begin(t, filepath.Join(dir, "files"), "a: 2\n").end(1)
	link := func(target, name string) {
		t.Helper()
		os.Remove(filepath.Join(dir, name))
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(filepath.Join(outside, "run"), "folder")
	link(filepath.Join(outside, "recipe.yaml"), "files/recipe.yaml")
	link(filepath.Join(outside, "summary.json"), "files/summary.json")
	link(filepath.Join(outside, "curvature.json"), "files/curvature.json")
	link(filepath.Join(outside, "run/checkpoints"), "files/checkpoints")
	link(filepath.Join(outside, "events.jsonl"), "events/events.jsonl")
	link("../../"+filepath.Base(outside)+"/events.jsonl", "relative/events.jsonl")
	w := watched(t, dir)
	if n := len(w.List().Runs); n != 4 {
		t.Errorf("%d runs; want plain, files, events and relative", n)
	}
	for _, id := range []string{"files", "events", "relative"} {
		if e := w.state(t, id); e.State != Broken || id == "events" && !strings.Contains(e.Error, "escapes") {
			t.Errorf("%s is %s: %s", id, e.State, e.Error)
		}
	}
	page := serving(t, w, local)
	paths := []string{"/api/runs", "/metrics", "/api/differences?run=plain&run=files&run=events"}
	for _, id := range []string{"plain", "files", "events", "relative", "folder", "folder/run", "../" + filepath.Base(outside) + "/run", outside + "/run", "plain/../../x", ".", "..", "/"} {
		for _, call := range []string{"run", "curvature"} {
			paths = append(paths, "/api/"+call+"?id="+url.QueryEscape(id))
		}
	}
	for _, up := range []string{"../", "..%2f", "%2e%2e/", "..\\", "....//", "/"} {
		for _, file := range []string{"events.jsonl", "run/recipe.yaml", filepath.Base(outside) + "/events.jsonl", "etc/passwd"} {
			paths = append(paths, "/"+strings.Repeat(up, 6)+file, "/api/"+strings.Repeat(up, 6)+file)
		}
	}
	for _, path := range paths {
		body := raw(t, page, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").body
		for _, leak := range []string{secret, "step-000000077", "root:"} {
			if strings.Contains(body, leak) {
				t.Errorf("%s tells %q: %s", path, leak, body)
			}
		}
	}
}

// raw sends bytes as they are: no client tidies up the path.
func raw(t *testing.T, page, request string) answer {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(page, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, request)
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body strings.Builder
	if _, err := bufio.NewReader(response.Body).WriteTo(&body); err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, body.String()}
}

func TestHost(t *testing.T) {
	page := serving(t, watched(t, t.TempDir()), local)
	for host, want := range map[string]int{"localhost": 200, "localhost:1234": 200, "127.0.0.1:80": 200, "127.9.9.9": 200, "[::1]:7": 200,
		"evil.example": 421, "evil.example:7878": 421, "localhost.evil.example": 421, "10.0.0.1": 421, "127.0.0.1.nip.io": 421, "": 421} {
		if a := raw(t, page, "GET /api/runs HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n"); a.status != want {
			t.Errorf("Host %q: %d; want %d", host, a.status, want)
		}
	}
}

func TestOnlyReads(t *testing.T) {
	page := serving(t, watched(t, t.TempDir()), local)
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X"} {
		request, err := http.NewRequest(method, page+"/api/runs", nil)
		if err != nil {
			t.Fatal(err)
		}
		if a := ask(t, request); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d, allowed %q", method, a.status, a.header.Get("Allow"))
		}
	}
	request, err := http.NewRequest(http.MethodHead, page+"/api/runs", nil)
	if err != nil {
		t.Fatal(err)
	}
	if a := ask(t, request); a.status != http.StatusOK || a.body != "" {
		t.Errorf("HEAD: %d, %q", a.status, a.body)
	}
	if a := raw(t, page, "GET / HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 40<<10)+"\r\n\r\n"); a.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a large header: %d", a.status)
	}
}

func TestHeaders(t *testing.T) {
	page := serving(t, watched(t, t.TempDir()), local)
	for _, path := range []string{"/", "/app.js", "/api/runs", "/metrics", "/none", "/login.html"} {
		a := get(t, page+path)
		h := a.header
		for name, want := range map[string]string{"Content-Security-Policy": "default-src 'none'; script-src 'self';", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
			if name == "Cache-Control" && a.status != http.StatusOK {
				continue // the library leaves it out of errors
			}
			if !strings.HasPrefix(h.Get(name), want) {
				t.Errorf("%s: %s is %q", path, name, h.Get(name))
			}
		}
		if policy := h.Get("Content-Security-Policy"); !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: %s", path, policy)
		}
		if h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s lets other origins read", path)
		}
	}
}

func TestListenMistakes(t *testing.T) {
	w := watched(t, t.TempDir())
	for _, c := range []struct {
		o    Options
		want string
	}{{Options{Listen: "0.0.0.0:0"}, "a token is needed"}, {Options{Listen: ":0"}, "a token is needed"}, {Options{Listen: "[::]:0"}, "a token is needed"}, {Options{Listen: "example.org:0"}, "a token is needed"},
		{Options{Listen: "7878"}, "ADDRESS:PORT"}, {Options{Listen: "127.0.0.1:x"}, "--listen 127.0.0.1:x"}, {Options{Listen: "127.0.0.1:0", Token: "short"}, "at least 16"}} {
		if s, err := Listen(w, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, %v; want %q", c.o, s, err, c.want)
		}
	}
}

func TestToken(t *testing.T) {
	dir := t.TempDir()
	begin(t, filepath.Join(dir, "a"), "").end(1)
	const token = "0123456789abcdef"
	page := serving(t, watched(t, dir), Options{Listen: "0.0.0.0:0", Token: token})
	page = "http://127.0.0.1:" + page[strings.LastIndex(page, ":")+1:]
	with := func(path, name, value string) answer {
		t.Helper()
		request, err := http.NewRequest(http.MethodGet, page+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set(name, value)
		return ask(t, request)
	}
	for _, path := range []string{"/api/runs", "/api/run?id=a", "/api/events", "/metrics", "/app.js", "/api/curvature?id=a", "/api/differences"} {
		for _, given := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Bearer 0123456789abcde", "Bearer 0123456789abcdef0", "Basic " + token, token} {
			if a := with(path, "Authorization", given); a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%s with %q: %d", path, given, a.status)
			}
		}
		if a := with(path+"#", "Cookie", sessionCookie+"="+token); a.status != http.StatusUnauthorized {
			t.Errorf("%s with the token as a cookie: %d", path, a.status)
		}
	}
	if a := with("/api/runs", "Authorization", "Bearer "+token); a.status != http.StatusOK {
		t.Errorf("with the token: %d", a.status)
	}
	if a := get(t, page+"/"); a.status != http.StatusSeeOther || a.header.Get("Location") != "/login.html" {
		t.Errorf("the page: %d %s", a.status, a.header.Get("Location"))
	}
	if a := get(t, page+"/login.html"); a.status != http.StatusOK {
		t.Errorf("the login: %d", a.status)
	}
	login := func(given, origin string) answer {
		t.Helper()
		request, err := http.NewRequest(http.MethodPost, page+"/login", strings.NewReader(url.Values{"token": {given}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Origin", origin)
		return ask(t, request)
	}
	if a := login("wrong", page); a.header.Get("Set-Cookie") != "" || !strings.Contains(a.header.Get("Location"), "wrong") {
		t.Errorf("a wrong login: %d %v", a.status, a.header)
	}
	if a := login(token, "http://evil.example"); a.status != http.StatusForbidden || a.header.Get("Set-Cookie") != "" {
		t.Errorf("a login from another site: %d %v", a.status, a.header)
	}
	if a := login(strings.Repeat("x", 2*maxLoginBytes), page); a.status != http.StatusBadRequest {
		t.Errorf("a large login: %d", a.status)
	}
	a := login(token, page)
	cookie := a.header.Get("Set-Cookie")
	if a.status != http.StatusSeeOther || !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "SameSite=Strict") || strings.Contains(cookie, token) {
		t.Fatalf("login: %d %s", a.status, cookie)
	}
	pair, _, _ := strings.Cut(cookie, ";")
	if a := with("/api/runs", "Cookie", pair); a.status != http.StatusOK {
		t.Errorf("with the cookie: %d", a.status)
	}
}

// So many requests are answered at the same time; the next one is told to come again.
func TestRequestsAreBounded(t *testing.T) {
	inside, leave := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(newGuard(local).protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		inside <- struct{}{}
		<-leave
	})))
	defer server.Close()
	var all sync.WaitGroup
	for range maxRequests {
		all.Go(func() { get(t, server.URL) })
	}
	for range maxRequests {
		<-inside
	}
	if a := get(t, server.URL); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("one more: %d", a.status)
	}
	close(leave)
	all.Wait()
	go func() { <-inside }()
	if a := get(t, server.URL); a.status != http.StatusOK {
		t.Errorf("afterwards: %d", a.status)
	}
}

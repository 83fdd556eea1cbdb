package dashboard

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// Bounds on requests.
const (
	maxRequests   = 64 // answered at the same time, streams aside
	maxLoginBytes = 4 << 10
	minTokenBytes = 16
)

// sessionCookie holds the proof of a login.
const sessionCookie = "broadside_session"

// NewToken makes a token that nobody guesses.
func NewToken() string { return rand.Text() }

// CheckListen says what is wrong with where and how to listen, if anything: beyond this machine a token is needed.
func CheckListen(o Options) error {
	host, port, err := net.SplitHostPort(o.Listen)
	if err != nil || port == "" {
		return fmt.Errorf("--listen %q: want ADDRESS:PORT, as in 127.0.0.1:7878", o.Listen)
	}
	if o.Token == "" && !loopback(host) {
		return fmt.Errorf("--listen %s can be reached from other machines: a token is needed", o.Listen)
	}
	if o.Token != "" && len(o.Token) < minTokenBytes {
		return fmt.Errorf("a token of %d characters can be guessed: want at least %d", len(o.Token), minTokenBytes)
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return errors.New("--tls-cert and --tls-key go together: one names the certificate, the other its key")
	}
	return nil
}

// Loopback reports whether an address to listen on is of this machine only.
func Loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	return err == nil && loopback(host)
}

func loopback(host string) bool {
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// guard lets through who may see the page, and only requests that read.
type guard struct {
	local   bool     // only this machine can reach us, so a request must name it
	token   [32]byte // hashed, so that a comparison tells nothing of its length
	open    bool     // there is no token
	session string   // of every login, until the server ends
	slots   chan struct{}
	cross   *http.CrossOriginProtection
}

func newGuard(o Options) *guard {
	return &guard{local: Loopback(o.Listen), token: sha256.Sum256([]byte(o.Token)), open: o.Token == "", session: rand.Text() + rand.Text(),
		slots: make(chan struct{}, maxRequests), cross: http.NewCrossOriginProtection()}
}

// headers are sent with everything. The page is made of its own files alone.
var headers = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; " +
		"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Permissions-Policy":           "camera=(), geolocation=(), microphone=()",
	"Cache-Control":                "no-store",
}

// protect answers what must not get through to the handler.
func (g *guard) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range headers {
			w.Header().Set(name, value)
		}
		if status, err := g.check(r); err != nil {
			g.refuse(w, r, status, err)
			return
		}
		if r.URL.Path != streamPath { // streams have their own bound
			select {
			case g.slots <- struct{}{}:
				defer func() { <-g.slots }()
			default:
				w.Header().Set("Retry-After", "1")
				http.Error(w, "too many requests at the same time", http.StatusServiceUnavailable)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// check says whether a request may be answered.
func (g *guard) check(r *http.Request) (int, error) {
	login := r.URL.Path == "/login" && r.Method == http.MethodPost
	if !login && r.Method != http.MethodGet && r.Method != http.MethodHead {
		return http.StatusMethodNotAllowed, errors.New("this page can only be read")
	}
	if g.local && !loopback(hostOf(r.Host)) {
		// A name that an attacker has made to lead to 127.0.0.1 would let his page read ours.
		return http.StatusMisdirectedRequest, fmt.Errorf("%q is no name of this machine alone: use localhost or 127.0.0.1", r.Host)
	}
	if err := g.cross.Check(r); err != nil {
		return http.StatusForbidden, err
	}
	if !login && !public[r.URL.Path] && !g.allowed(r) {
		return http.StatusUnauthorized, errors.New("a token is needed: log in, or send it as 'Authorization: Bearer TOKEN'")
	}
	return 0, nil
}

// public are the files of the login page.
var public = map[string]bool{"/login.html": true, "/base.css": true, "/page.css": true}

// hostOf is a Host header without its port.
func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}

// refuse answers a refused request; somebody who opens the page without a token is shown where to give it.
func (g *guard) refuse(w http.ResponseWriter, r *http.Request, status int, err error) {
	switch {
	case status == http.StatusMethodNotAllowed:
		w.Header().Set("Allow", "GET, HEAD")
	case status == http.StatusUnauthorized && (r.URL.Path == "/" || r.URL.Path == "/index.html"):
		http.Redirect(w, r, "login.html", http.StatusSeeOther)
		return
	case status == http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	http.Error(w, err.Error(), status)
}

// allowed reports whether a request shows the token, or the cookie of a login.
func (g *guard) allowed(r *http.Request) bool {
	if g.open {
		return true
	}
	if kind, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(kind, "Bearer") {
		return g.isToken(strings.TrimSpace(token))
	}
	cookie, err := r.Cookie(sessionCookie)
	return err == nil && subtle.ConstantTimeCompare([]byte(cookie.Value), []byte(g.session)) == 1
}

func (g *guard) isToken(given string) bool {
	hash := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(hash[:], g.token[:]) == 1
}

// login takes the token of the login page and gives the cookie for it.
func (g *guard) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxLoginBytes)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "not a login", http.StatusBadRequest)
		return
	}
	if g.open || !g.isToken(strings.TrimSpace(r.PostForm.Get("token"))) {
		http.Redirect(w, r, "login.html?wrong=1#wrong", http.StatusSeeOther)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: g.session, Path: "/", HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, "./", http.StatusSeeOther)
}

package dashboard

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certificate makes one for 127.0.0.1, and its key, and returns the files and who trusts it.
func certificate(t *testing.T) (cert, key string, trusted *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	what := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	signed, err := x509.CreateCertificate(rand.Reader, what, what, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})
	write(t, cert, string(text))
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	trusted = x509.NewCertPool()
	trusted.AppendCertsFromPEM(text)
	return cert, key, trusted
}

// With a certificate the page is there over TLS only, its cookie too, and curves go on to stream.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	begin(t, filepath.Join(dir, "a"), "").end(1)
	cert, key, trusted := certificate(t)
	const token = "0123456789abcdef"
	page := serving(t, watched(t, dir), Options{Listen: "127.0.0.1:0", Token: token, TLSCert: cert, TLSKey: key})
	if !strings.HasPrefix(page, "https://127.0.0.1:") {
		t.Fatalf("the page is at %s", page)
	}
	client := func(c *tls.Config) *http.Client {
		transport := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	friend := client(&tls.Config{RootCAs: trusted})
	request, err := http.NewRequest(http.MethodGet, page+"/api/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := friend.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || response.ProtoMajor != 1 { // whose limits are of connections
		t.Errorf("events: %s %s", response.Proto, response.Status)
	}
	stream := bufio.NewReader(response.Body)
	waitFor := func(text string) {
		t.Helper()
		for {
			line, err := stream.ReadString('\n')
			if err != nil {
				t.Fatalf("the stream ends before %q: %v", text, err)
			}
			if strings.Contains(line, text) {
				return
			}
		}
	}
	waitFor(`"id":"a"`)
	begin(t, filepath.Join(dir, "b"), "").end(1)
	waitFor(`"id":"b"`)
	login, err := friend.PostForm(page+"/login", url.Values{"token": {token}})
	if err != nil {
		t.Fatal(err)
	}
	login.Body.Close()
	if cookies := login.Cookies(); len(cookies) != 1 || !cookies[0].Secure {
		t.Errorf("cookies %v; want one for TLS only", cookies)
	}
	if response, err := http.Get("http" + strings.TrimPrefix(page, "https") + "/api/runs"); err == nil {
		response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("without TLS: %d", response.StatusCode)
		}
	}
	for name, c := range map[string]*tls.Config{"a stranger": {}, "TLS 1.1": {RootCAs: trusted, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}} {
		if response, err := client(c).Get(page); err == nil {
			response.Body.Close()
			t.Errorf("%s is answered", name)
		}
	}
}

func TestTLSMistakes(t *testing.T) {
	cert, key, _ := certificate(t)
	_, other, _ := certificate(t)
	w := watched(t, t.TempDir())
	for _, o := range []Options{{TLSCert: cert}, {TLSKey: key}, {TLSCert: cert, TLSKey: other}, {TLSCert: key, TLSKey: cert}, {TLSCert: "none.pem", TLSKey: key}} {
		o.Listen = local.Listen
		if s, err := Listen(w, o); err == nil || !strings.Contains(err.Error(), "--tls-cert") {
			t.Errorf("%+v: %v, %v", o, s, err)
		}
	}
}

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"enclave/sandbox/session"
	"enclave/tui/screen"
)

// openSandbox readies calls to a sandbox server; without an address there is none. The
// token goes in clear only over loopback.
func (a *app) openSandbox(at, tokenFile string) (*sandboxAt, error) {
	if at == "" {
		return nil, nil
	}
	u, err := url.Parse(at)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, usage("--sandbox %.80q: want http://127.0.0.1:PORT or https://HOST:PORT", at)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.Scheme == "http" && (err != nil || !ip.IsLoopback()) {
		return nil, usage("--sandbox %.80q: plain HTTP would show the token to the network; use https, or loopback", at)
	}
	token := a.Getenv("ENCLAVE_SANDBOX_TOKEN")
	if tokenFile != "" {
		if token, err = readSecret(tokenFile); err != nil {
			return nil, err
		}
	}
	if token == "" {
		return nil, usage("--sandbox needs a token").hint("pass --sandbox-token-file FILE, or set ENCLAVE_SANDBOX_TOKEN")
	}
	return &sandboxAt{url: u.Scheme + "://" + u.Host, token: token, http: &http.Client{
		Timeout:       screen.Patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token is for that host
		Transport:     &http.Transport{DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext},
	}}, nil
}

// maxSandboxAnswer bounds what is read of an answer.
const maxSandboxAnswer = 4 << 20

func (s *sandboxAt) call(ctx context.Context, method, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := s.http.Do(req)
	if err != nil {
		return fmt.Errorf("the sandbox server: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxSandboxAnswer))
	if err != nil {
		return fmt.Errorf("the sandbox server: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		var refused struct {
			Error struct{ Code, Message string }
		}
		_ = json.Unmarshal(raw, &refused)
		return fmt.Errorf("the sandbox server: %d %.40s %.200s", resp.StatusCode, refused.Error.Code, refused.Error.Message)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(raw, out)
}

func (s *sandboxAt) sessions(ctx context.Context) ([]screen.Session, error) {
	var in struct{ Sessions []session.Info }
	if err := s.call(ctx, http.MethodGet, "/sessions", &in); err != nil {
		return nil, err
	}
	var out []screen.Session
	for _, i := range in.Sessions {
		one := screen.Session{ID: i.ID, Run: i.Run, State: string(i.State), At: i.CreatedAt}
		if i.State == session.Waiting {
			one.State = "waiting" // for a tool
		}
		out = append(out, one)
	}
	return out, nil
}

func (s *sandboxAt) cancel(ctx context.Context, id string) error {
	return s.call(ctx, http.MethodPost, "/sessions/"+url.PathEscape(id)+"/cancel", nil)
}

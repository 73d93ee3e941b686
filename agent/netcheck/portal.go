package netcheck

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// portalIn is how long the page that a portal would answer for is waited for.
const portalIn = 3 * time.Second

// askPortal asks for a page by plain HTTP, which a captive portal answers in the place of
// whoever was asked (RFC 8910 section 1). It takes no proxy and follows nothing.
func (cfg *Config) askPortal(ctx context.Context) PortalReport {
	page, own := cfg.PortalURL, true
	if page == "" {
		if own = false; len(cfg.Relays) == 0 || cfg.Relays[0].Addr == "" {
			return PortalReport{State: PortalSkipped}
		}
		host, _, err := net.SplitHostPort(cfg.Relays[0].Addr)
		if err != nil {
			return PortalReport{State: PortalSkipped}
		}
		page = (&url.URL{Scheme: "http", Host: hostOf(host), Path: "/"}).String()
	}
	out := PortalReport{URL: page, State: PortalNone}
	ctx, cancel := context.WithTimeout(ctx, portalIn)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return PortalReport{URL: page, State: PortalSkipped, Detail: err.Error()}
	}
	t := &http.Transport{DialContext: cfg.Network.DialContext, DisableKeepAlives: true, MaxResponseHeaderBytes: maxAnswer}
	defer t.CloseIdleConnections()
	resp, err := t.RoundTrip(req)
	if err != nil {
		if out.Detail = "nothing answers by plain HTTP at " + req.URL.Host; own {
			out.State, out.Detail = PortalUnclear, page+" does not answer"
		}
		return out
	}
	resp.Body.Close()
	out.State, out.Detail = judgePortal(req.URL, resp, own)
	return out
}

// judgePortal looks at an answer. own is whether the page was chosen to answer 204.
func judgePortal(asked *url.URL, resp *http.Response, own bool) (PortalState, string) {
	to, err := resp.Location()
	switch {
	case resp.StatusCode == http.StatusNetworkAuthenticationRequired: // RFC 6585 section 6
		return PortalFound, "the network says that one must sign in"
	case err == nil && !strings.EqualFold(to.Hostname(), asked.Hostname()):
		return PortalFound, fmt.Sprintf("sends to %.100s", to.Host)
	case own && resp.StatusCode == http.StatusNoContent:
		return PortalNone, ""
	case own:
		return PortalFound, fmt.Sprintf("%s answers %.60s, not 204", asked, resp.Status)
	}
	return PortalUnclear, fmt.Sprintf("a page answers at %s (%.60s)", asked.Host, resp.Status)
}

func hostOf(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

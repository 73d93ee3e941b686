package session

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
)

// CheckOrigin reports what is wrong with an origin that pages may call from.
func CheckOrigin(text string) error {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || text != u.Scheme+"://"+u.Host {
		return errors.New("want scheme://host or scheme://host:port, such as https://app.example.com")
	}
	return nil
}

// origins lets pages of the listed origins call (WHATWG Fetch, section 3.2). A request
// carries its token in a header and never a cookie, so that a page of another origin
// could do nothing in its visitor's name; with an empty list no page calls at all.
func origins(list []string, next http.Handler) http.Handler {
	if len(list) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Origin")
		if origin := r.Header.Get("Origin"); slices.Contains(list, origin) {
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Set("Access-Control-Expose-Headers", "Location, Retry-After")
			if r.Method == http.MethodOptions {
				w.Header().Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
				w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID")
				w.Header().Set("Access-Control-Max-Age", "600")
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

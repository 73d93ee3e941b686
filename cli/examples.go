package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// examples are those of commands that need no words beside them. A test runs each as far as
// a command line can be judged without a server.
var examples = map[string]string{ // read only
	"agent status":        "agent status --state laptop --watch",
	"audit key":           "audit key > audit.pub",
	"audit segments":      "audit segments",
	"audit subjects":      "audit subjects",
	"bench all":           "bench all --quick",
	"bench filter":        "bench filter --rounds 5",
	"bench flood":         "bench flood --quick",
	"bench mesh":          "bench mesh --each 3s",
	"bench policy":        "bench policy --systems 10000",
	"bench relay":         "bench relay --quick",
	"bench sandbox":       "bench sandbox --quick",
	"bench store":         "bench store --quick",
	"control":             "control --state lab --listen 0.0.0.0:8443 --advertise https://192.0.2.7:8443",
	"demo":                "demo --plain",
	"dns record delete":   "dns record delete 7f3a9c2e --dry-run",
	"dns record list":     "dns record list",
	"dns record update":   "dns record update 7f3a9c2e --tag databases",
	"dns zone delete":     "dns zone delete corp.example --dry-run",
	"dns zone list":       "dns zone list",
	"dns zone update":     "dns zone update corp.example --auto-tag servers",
	"forecast":            "forecast --days 7",
	"graph":               "graph --from-tag laptops --format mermaid",
	"key delete":          "key delete 7f3a9c2e --reason \"the trial is over\"",
	"key disable":         "key disable 7f3a9c2e",
	"key enable":          "key enable 7f3a9c2e",
	"key list":            "key list --json",
	"policy apply":        "policy apply set.yaml --confirm-within 10m",
	"policy compare":      "policy compare 41",
	"policy confirm":      "policy confirm",
	"policy delete":       "policy delete \"Web for laptops\" --dry-run",
	"policy diff":         "policy diff set.yaml",
	"policy disable":      "policy disable \"Web for laptops\" --wait",
	"policy edit":         "policy edit \"Web for laptops\"",
	"policy enable":       "policy enable \"Web for laptops\" --dry-run",
	"policy eval":         "policy eval questions.jsonl",
	"policy export":       "policy export > set.json",
	"policy history":      "policy history",
	"policy list":         "policy list --json",
	"policy restore":      "policy restore 41 --dry-run",
	"policy show":         "policy show \"Web for laptops\"",
	"policy test":         "policy test set.yaml",
	"relays list":         "relays list",
	"sandbox doctor":      "sandbox doctor",
	"sandbox levels":      "sandbox levels",
	"status":              "status --state lab",
	"system access":       "system access laptop",
	"system add":          "system add laptop printer",
	"system approve":      "system approve laptop",
	"system delete":       "system delete laptop --dry-run",
	"system disable":      "system disable laptop --wait",
	"system enable":       "system enable laptop",
	"system list":         "system list --tag servers --state-is connected",
	"system peers":        "system peers laptop",
	"system revoke":       "system revoke laptop --reason \"it was stolen\" --wait",
	"system route list":   "system route list",
	"system route remove": "system route remove gate 192.168.1.0/24 --dry-run",
	"system show":         "system show laptop",
	"system unadd":        "system unadd laptop printer",
	"tag add":             "tag add laptop developers --dry-run",
	"tag list":            "tag list",
	"tag remove":          "tag remove laptop developers --dry-run",
	"tag rename":          "tag rename developers engineers",
	"tag set":             "tag set servers --notes \"in the rack\" --trust office",
	"token list":          "token list",
	"token revoke":        "token revoke ci --reason \"it leaked\"",
	"trust delete":        "trust delete office --dry-run",
	"trust list":          "trust list",
	"trust met":           "trust met laptop mfa",
	"trust unmet":         "trust unmet laptop mfa --dry-run",
	"tui":                 "tui --state lab --read-only",
	"version":             "version --json",
	"waitfor":             "waitfor web --state laptop",
}

// giveExamples fills in the examples of c and of all below it.
func giveExamples(c *cobra.Command, name string) {
	if line, ok := examples[name]; ok && c.Example == "" {
		c.Example = "  enclave " + line
	}
	for _, sub := range c.Commands() {
		giveExamples(sub, strings.TrimSpace(name+" "+sub.Name()))
	}
}

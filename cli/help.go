package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// helpWidth is how wide help is: a terminal of 80 columns shows it as it was written.
const helpWidth = 80

// fitHelp folds what help says of c and of all below it to helpWidth.
func fitHelp(c *cobra.Command) {
	c.Long, c.Example = foldText(c.Long, helpWidth), foldText(c.Example, helpWidth)
	for _, sub := range c.Commands() {
		fitHelp(sub)
	}
}

// foldText folds paragraphs to width. Lines that begin with a space or a tab are meant as
// they are; those that are commands go on behind a backslash, as a shell takes them.
func foldText(text string, width int) string {
	var out, words []string
	flush := func() {
		out, words = append(out, fold(words, width, "", "")...), nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.TrimLeft(line, " \t") != line:
			flush()
			if len([]rune(line)) > width {
				indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
				out = append(out, fold(shellWords(strings.TrimSpace(line)), width, indent, ` \`)...)
			} else {
				out = append(out, line)
			}
		case line == "":
			flush()
			out = append(out, "")
		default:
			words = append(words, strings.Fields(line)...)
		}
	}
	flush()
	return strings.Join(out, "\n")
}

// fold sets words in lines of at most width characters, where the words allow it. Lines
// after the first are indented further when something marks that they go on.
func fold(words []string, width int, indent, goesOn string) (lines []string) {
	line, further := indent, indent
	if goesOn != "" {
		further += "    "
	}
	for i, w := range words {
		mark := goesOn
		if i == len(words)-1 {
			mark = ""
		}
		switch {
		case strings.TrimSpace(line) == "":
			line += w
		case len([]rune(line))+1+len([]rune(w))+len(mark) > width:
			lines, line = append(lines, line+goesOn), further+w
		default:
			line += " " + w
		}
	}
	if strings.TrimSpace(line) != "" {
		lines = append(lines, line)
	}
	return lines
}

// shellWords cuts a command at its spaces, not at those inside quotes, and leaves a flag
// with its value.
func shellWords(line string) (words []string) {
	var quote rune
	begin := 0
	for i, r := range line + " " {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '\'' || r == '"':
			quote = r
		case r == ' ' && i > begin:
			words, begin = append(words, line[begin:i]), i+1
		case r == ' ':
			begin = i + 1
		}
	}
	var out []string
	for _, w := range words {
		if n := len(out); n > 0 && strings.HasPrefix(out[n-1], "--") && !strings.Contains(out[n-1], " ") && !strings.HasPrefix(w, "-") {
			out[n-1] += " " + w
			continue
		}
		out = append(out, w)
	}
	return out
}

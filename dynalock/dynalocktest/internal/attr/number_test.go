package attr

import (
	"math/big"
	"strings"
	"testing"
)

func TestNumbersAreStoredInPlainDigits(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"0": "0", "-0": "0", "0.0": "0", "0e1000": "0", "1E+2": "100", "1e2": "100", "007": "7", "1.50": "1.5", ".5": "0.5",
		"5.": "5",
		"+5": "5", "-5": "-5", "1e-5": "0.00001", "123e-2": "1.23", "-.5": "-0.5", "1.000": "1",
		"1e125":                 "1" + strings.Repeat("0", 125),
		"1e-130":                "0." + strings.Repeat("0", 129) + "1",
		strings.Repeat("1", 38): strings.Repeat("1", 38),
		"1" + strings.Repeat("0", 39) + "." + strings.Repeat("0", 39): "1" + strings.Repeat("0", 39),
	} {
		n, err := ParseNumber(text)
		if err != nil || n.String() != want {
			t.Errorf("%s is stored as %v (%v), want %s", text, n, err, want)
		}
	}
}

func TestNumbersOutsideTheRangeAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]error{
		"": errNotNumber, " ": errNotNumber, " 1": errNotNumber, "1 ": errNotNumber, "+": errNotNumber, ".": errNotNumber,
		"e1": errNotNumber,
		"1e": errNotNumber, "1e+": errNotNumber, "--1": errNotNumber, "1_0": errNotNumber, "0x10": errNotNumber,
		"NaN":      errNotNumber,
		"Infinity": errNotNumber, "1e99999999999": errNotNumber, "1,5": errNotNumber, "1.2.3": errNotNumber,
		"1e126": errOverflow, "-1e126": errOverflow, "1e1000000000": errOverflow, "1e-131": errUnderflow,
		"9.9e-131":              errUnderflow,
		strings.Repeat("1", 39): errPrecision, "12345678901234567890123456789012345678.9": errPrecision,
	} {
		if n, err := ParseNumber(text); err != want { //nolint:errorlint // the very value
			t.Errorf("%q gives %v, %v, want %v", text, n, err, want)
		}
	}
}

func TestSumsAreExactOrRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ a, b, want string }{
		{"1", "0.1", "1.1"},
		{"-1", "1", "0"},
		{strings.Repeat("9", 38), "1", "1" + strings.Repeat("0", 38)},
		{"1e-130", "-1e-130", "0"},
		{"1e125", "9e125", errOverflow.Error()},
		{"1e38", "1", errPrecision.Error()},
		{"1", "1e-40", errPrecision.Error()},
		{"1e50", "-1e12", strings.Repeat("9", 38) + strings.Repeat("0", 12)},
	} {
		a, _ := ParseNumber(tt.a)
		b, _ := ParseNumber(tt.b)
		sum, err := a.Add(b)
		got := sum.String()
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s + %s = %s, want %s", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestANumbersSizeCountsPairsOfDigits(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"0": 1, "1": 2, "12": 2, "123": 3, "1234": 3, "-1": 3, "-123": 4, "100": 2, "1000": 2, "0.1": 2, "0.001": 2, "1.5": 3,
		"1.55":  3,
		"1.555": 4, "15.5": 3, "1e20": 2, "1e21": 2, "1e125": 2, "1e-130": 2, "1700000000000000": 2,
		strings.Repeat("1", 37): 20, strings.Repeat("1", 38): 20, "-" + strings.Repeat("1", 38): 21,
	} {
		n, err := ParseNumber(text)
		if err != nil || n.size() != want {
			t.Errorf("%s takes %d bytes (%v), want %d", text, n.size(), err, want)
		}
	}
}

func FuzzNumbers(f *testing.F) {
	for _, seed := range [][2]string{
		{"1", "-1"},
		{"1e125", "1e-130"},
		{"-0.5", "00.50"},
		{"12345678901234567890", "1E+2"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, x, y string) {
		a, err := ParseNumber(x)
		if err != nil {
			return
		}
		again, err := ParseNumber(a.String())
		if err != nil || again != a {
			t.Fatalf("%s is stored as %s, which is read as %v (%v)", x, a, again, err)
		}
		b, err := ParseNumber(y)
		if err != nil {
			return
		}
		ra, rb := rational(t, a), rational(t, b)
		if a.Compare(b) != ra.Cmp(rb) {
			t.Fatalf("%s compared with %s gives %d", a, b, a.Compare(b))
		}
		if sum, err := a.Add(b); err == nil && rational(t, sum).Cmp(ra.Add(ra, rb)) != 0 {
			t.Fatalf("%s + %s = %s", a, b, sum)
		}
	})
}

func rational(t *testing.T, n Number) *big.Rat {
	t.Helper()
	r, ok := new(big.Rat).SetString(n.String())
	if !ok {
		t.Fatalf("%s is no number", n)
	}
	return r
}

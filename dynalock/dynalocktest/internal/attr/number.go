package attr

import (
	"errors"
	"math/big"
	"strconv"
	"strings"
)

// The reasons why a number is refused.
var (
	ErrNotNumber = errors.New("not a number")
	ErrPrecision = errors.New("Attempting to store more than 38 significant digits in a Number")                            //nolint:staticcheck // the protocol's text
	ErrOverflow  = errors.New("Number overflow. Attempting to store a number with magnitude larger than supported range")   //nolint:staticcheck // the protocol's text
	ErrUnderflow = errors.New("Number underflow. Attempting to store a number with magnitude smaller than supported range") //nolint:staticcheck // the protocol's text
)

const (
	maxDigits    = 38
	maxMagnitude = 126  // 9.99...E+125 has its first digit below 10^126
	minMagnitude = -129 // 1E-130
)

// Number is a decimal of up to 38 significant digits: digits × 10^exp, digits without zeros at either end. Zero has no digits.
type Number struct {
	neg    bool
	digits string
	exp    int
}

// ParseNumber reads a decimal with an optional sign, fraction and exponent.
func ParseNumber(text string) (Number, error) {
	rest := text
	var n Number
	if rest != "" && (rest[0] == '-' || rest[0] == '+') {
		n.neg = rest[0] == '-'
		rest = rest[1:]
	}
	if i := strings.IndexAny(rest, "eE"); i >= 0 {
		exp := rest[i+1:]
		if exp == "" || len(exp) > 11 {
			return Number{}, ErrNotNumber
		}
		e, err := strconv.ParseInt(exp, 10, 32)
		if err != nil {
			return Number{}, ErrNotNumber
		}
		n.exp = int(e)
		rest = rest[:i]
	}
	whole, fraction, _ := strings.Cut(rest, ".")
	if whole == "" && fraction == "" {
		return Number{}, ErrNotNumber
	}
	digits := whole + fraction
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return Number{}, ErrNotNumber
		}
	}
	n.exp -= len(fraction)
	return n.normal(digits).check()
}

// normal takes the zeros off both ends of digits.
func (n Number) normal(digits string) Number {
	digits = strings.TrimLeft(digits, "0")
	short := strings.TrimRight(digits, "0")
	n.exp += len(digits) - len(short)
	n.digits = short
	if short == "" {
		return Number{}
	}
	return n
}

func (n Number) check() (Number, error) {
	switch {
	case n.digits == "":
		return n, nil
	case n.magnitude() > maxMagnitude:
		return Number{}, ErrOverflow
	case n.magnitude() < minMagnitude:
		return Number{}, ErrUnderflow
	case len(n.digits) > maxDigits:
		return Number{}, ErrPrecision
	}
	return n, nil
}

// magnitude is the power of ten just above the number.
func (n Number) magnitude() int { return len(n.digits) + n.exp }

// mustNumber reads a number that was stored in its canonical form.
func mustNumber(text string) Number {
	n, _ := ParseNumber(text)
	return n
}

// String gives the canonical form: plain digits, no exponent, no superfluous zeros.
func (n Number) String() string {
	if n.digits == "" {
		return "0"
	}
	var b strings.Builder
	if n.neg {
		b.WriteByte('-')
	}
	switch point := n.magnitude(); {
	case n.exp >= 0:
		b.WriteString(n.digits)
		b.WriteString(strings.Repeat("0", n.exp))
	case point <= 0:
		b.WriteString("0.")
		b.WriteString(strings.Repeat("0", -point))
		b.WriteString(n.digits)
	default:
		b.WriteString(n.digits[:point])
		b.WriteByte('.')
		b.WriteString(n.digits[point:])
	}
	return b.String()
}

// Value makes an N.
func (n Number) Value() Value { return Value{Kind: N, Str: n.String()} }

// Compare orders by value.
func (n Number) Compare(m Number) int {
	if n.sign() != m.sign() {
		return n.sign() - m.sign()
	}
	order := 0
	switch {
	case n.magnitude() != m.magnitude():
		order = n.magnitude() - m.magnitude()
	default:
		// With one magnitude the digits compare as text: the shorter one is as if padded with zeros.
		order = strings.Compare(n.digits, m.digits)
	}
	return order * n.sign()
}

func (n Number) sign() int {
	switch {
	case n.digits == "":
		return 0
	case n.neg:
		return -1
	}
	return 1
}

// Add gives n + m, or the reason why the sum cannot be stored.
func (n Number) Add(m Number) (Number, error) {
	exp := min(n.exp, m.exp)
	sum := n.scaled(exp)
	sum.Add(sum, m.scaled(exp))
	r := Number{neg: sum.Sign() < 0, exp: exp}
	return r.normal(sum.Abs(sum).String()).check()
}

// Sub gives n - m.
func (n Number) Sub(m Number) (Number, error) {
	m.neg = !m.neg
	return n.Add(m)
}

func (n Number) scaled(exp int) *big.Int {
	if n.digits == "" {
		return new(big.Int)
	}
	i, _ := new(big.Int).SetString(n.digits+strings.Repeat("0", n.exp-exp), 10)
	if n.neg {
		i.Neg(i)
	}
	return i
}

// size is about one byte for two digits and one for the exponent.
func (n Number) size() int {
	size := (len(n.digits)+1)/2 + 1
	if n.neg {
		size++
	}
	return size
}

# Counts the words of a text, then works with what it found: hashes, patterns, sorting, formatting.
use strict;
my %count;
open my $text, '<', $ARGV[0] or die "no text: $!";
while (my $line = <$text>) {
	$count{lc $1}++ while $line =~ /\b([A-Za-z_]{2,})\b/g;
}
my @words = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
print scalar(@words), " words\n";
printf "%-20s %6d\n", $_, $count{$_} for @words[0 .. 49];
my $turned = join ' ', map { my $w = reverse $_; $w =~ tr/a-y/b-z/; substr($w, 0, 1) . length $w } @words;
my ($sum, $x) = (0, 1);
for my $i (1 .. 300000) {
	$x = ($x * 1103515245 + 12345) % 2147483648;
	$sum += $x % $i;
}
print length($turned), " $sum\n";

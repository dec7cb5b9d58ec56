"""What ``micropaywall doctor`` looks at. Each part gives findings; none of them changes anything, and none pays."""

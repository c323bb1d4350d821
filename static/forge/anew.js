// Look at this page anew, and never at what a POST was answered with: a reload by a script would
// send the form again, unasked.
export const lookAgain = () => location.replace(location.pathname + location.search);
